"use strict";
// The page of one cluster: its videos, its classes, the nearest clusters, and the list of all its videos.
avssl.page = (() => {
  const { byId, el, count, percent, names, clusters } = avssl;
  const { term } = avssl.terms;
  const narrow = matchMedia("(max-width: 640px)");
  const tall = () => (narrow.matches ? 50 : 34); // height of a line of the list, px: on a narrow screen it has two rows
  let current = null;

  const field = (id, key, label, placeholder) => {
    const input = el("input", { id: `field-${key}`, type: "text", value: names.of(id)[key] ?? "", placeholder, autocomplete: "off", spellcheck: "false", "aria-label": label });
    input.addEventListener("change", () => names[key](id, input.value));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        names[key](id, input.value);
        (byId("next-unnamed") ?? byId("main")).focus({ preventScroll: true });
      }
      if (event.key === "Escape") {
        input.value = names.of(id)[key] ?? "";
        input.blur();
        event.stopPropagation();
      }
    });
    return input;
  };

  /** A button to the next cluster without a name; null if there is no other. */
  const next = (id) => {
    const others = avssl.chosen && clusters.nameable().some((c) => c.id !== id && !names.title(c.id));
    return others ? el("button", { id: "next-unnamed", type: "button", title: "open the next cluster without a name", onclick: () => avssl.nextUnnamed(id) }, "Next without a name (n)") : null;
  };

  const tools = (id) => {
    const { mark } = names.of(id);
    const button = (text, title, pressed, onclick) => el("button", { type: "button", title, "aria-pressed": pressed === null ? null : String(pressed), onclick }, text);
    return el(
      "div",
      { class: "tools" },
      button("★ Star", "star (s)", mark === "star", () => names.mark(id, "star")),
      button("✕ Reject", "leave out of the labelled data set (x)", mark === "reject", () => names.mark(id, "reject")),
      button("Merge into…", "merge into another cluster (m)", null, () => avssl.merging.open(id)),
    );
  };

  const chips = (rows) =>
    el("ul", { class: "chips" }, ...rows.map(([id, note, number]) => el("li", {}, el("a", { href: avssl.address(id, number) }, cover(id, number), number === undefined ? avssl.labels.of(id) : el("span", {}, `cluster ${id}`), note ? el("span", { class: "soft" }, note) : null))));

  /** The picture of a cluster of the head that is shown, or of the chosen one. */
  const cover = (id, number = avssl.data.head) => {
    const own = number === avssl.data.head;
    const [place] = (own ? clusters.one(id) : avssl.base.cluster[id]).cover;
    if (place === undefined) return el("span", { class: "none" });
    return avssl.tiles.picture(own ? avssl.row(avssl.position(id, place)) : avssl.base.start[id] + place, "");
  };

  const meter = (key, name, value) =>
    el("div", {}, el("dt", {}, term(key, name)), el("dd", { css: { "--share": value ?? 0 } }, percent(value)));

  /** The parts of the page that change with names. */
  const head = (id) => {
    const cluster = clusters.union(id);
    const group = names.group(id);
    const nodes = [];
    if (names.target(id) !== id)
      nodes.push(el("p", { class: "notice" }, "Merged into ", el("a", { href: avssl.address(names.target(id)) }, avssl.label(names.target(id))), ". ", el("button", { type: "button", onclick: () => names.split(id) }, "Split out again")));
    const { order } = avssl.overview;
    const at = order.findIndex((c) => c.id === id);
    const step = (by, text, title) => {
      const to = order[at + by];
      return el("a", { class: to ? "step" : "step off", href: to ? avssl.address(to.id) : null, title, "aria-label": title }, text);
    };
    nodes.push(
      el("div", { class: "heading" }, el("a", { class: "step", href: avssl.address(), title: "all clusters (Esc)" }, "← all"), el("h1", {}, `Cluster ${id}`), el("span", { class: "steps" }, step(-1, "‹", "previous cluster (k)"), step(1, "›", "next cluster (j)")), avssl.chosen ? field(id, "name", "name of the cluster", "name it ( e )") : null, next(id)),
    );
    if (avssl.chosen) nodes.push(el("div", { class: "marks" }, tools(id), field(id, "note", "note on the cluster", "a note")));
    const facts = [count(cluster.size) + (cluster.size ? ` (${percent(cluster.size / avssl.data.videos)} of all)` : "")];
    if (group.length > 1) facts.push(`${group.length} merged clusters`);
    if (cluster.purity !== null) facts.push(clusters.mostly(cluster));
    const meters = [meter("sure", "sure", cluster.confidence.joint), meter("video", "from video", cluster.confidence.video), meter("audio", "from audio", cluster.confidence.audio), meter("agree", "agree", cluster.agreement)];
    if (cluster.purity !== null) meters.push(meter("purity", "purity", cluster.purity));
    nodes.push(el("ul", { class: "facts" }, ...facts.map((fact) => el("li", {}, fact))), el("dl", { class: "meters" }, ...meters));
    if (cluster.sound) nodes.push(el("p", { class: "soft heard", title: "the audio of the surest videos that have a preview" }, `Audio: ${cluster.sound.text}`));
    if (group.length > 1)
      nodes.push(el("h2", {}, "Merged here"), el("ul", { class: "chips" }, ...group.slice(1).map((one) => el("li", {}, el("a", { href: avssl.address(one) }, cover(one), el("span", {}, avssl.label(one)), el("span", { class: "soft" }, count(clusters.one(one).size))), el("button", { type: "button", "aria-label": `split ${avssl.label(one)} out`, onclick: () => names.split(one) }, "split out")))));
    return nodes;
  };

  const kinds = { confident: "Most sure", random: "At random", least: "Least sure" };

  const tiles = async (id, holder) => {
    const group = names.group(id);
    const all = []; // positions, in the order in which the arrow keys go through them
    for (const [kind, title] of Object.entries(kinds)) {
      const positions = group.flatMap((one) => clusters.one(one).shown[kind].map((place) => avssl.position(one, place)));
      if (!positions.length) continue;
      all.push(...positions);
      const grid = el("div", { class: "tiles" });
      holder.append(el("h2", {}, title), grid);
      for (const position of positions) {
        const video = await avssl.video(position).catch((error) => void avssl.notice(error.message));
        if (!holder.isConnected) return;
        if (video) grid.append(avssl.tiles.tile(video, () => avssl.viewer.open(all, position)));
      }
    }
    if (!all.length && clusters.union(id).size && !avssl.chosen)
      holder.append(el("p", { class: "nothing" }, "None of these videos has a preview: previews are made for the chosen head only."));
  };

  /** The headings of the list. */
  const headings = () => {
    const classes = avssl.data.classes.length > 0;
    return el("div", { class: "line headings", "aria-hidden": "true" }, ...["sure", avssl.unit(), avssl.windows() ? "time" : "", classes ? "class" : "", "from video / audio"].map((text) => el("span", {}, text)));
  };

  /** A list of all videos of a group of clusters; only the lines in view are part of the page. */
  const list = (group) => {
    const height = tall();
    const parts = group.map(clusters.one);
    const total = parts.reduce((sum, part) => sum + part.size, 0);
    const space = el("div", { class: "space", css: { height: `${total * height}px` } });
    const box = el("div", { class: avssl.windows() ? "list timed" : "list", tabindex: "0", role: "list", "aria-label": `all ${count(total)}`, css: { "--tall": `${height}px`, "--lines": total } }, headings(), space);
    const lines = new Map();
    const locate = (at) => {
      for (const part of parts) {
        if (at < part.size) return avssl.position(part.id, at);
        at -= part.size;
      }
      return null;
    };
    const fill = async (at, line) => {
      const video = await avssl.video(locate(at)).catch((error) => void avssl.notice(error.message));
      if (!video || !line.isConnected) return;
      const link = avssl.link(video.url);
      line.append(
        el("i", { css: { "--share": video.confidence ?? 0 }, title: "sure" }, percent(video.confidence)),
        el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener", title: video.path }, el("bdi", {}, video.path)),
        el("span", { class: "time" }, avssl.time(video)),
        el("span", { class: "soft class" }, video.class >= 0 ? avssl.data.classes[video.class] : ""),
        avssl.labels.differ(video, "line") ?? "",
      );
    };
    const draw = () => {
      const first = Math.max(0, Math.floor(box.scrollTop / height) - 8);
      const last = Math.min(total, first + Math.ceil((box.clientHeight || 400) / height) + 16);
      for (const [at, line] of lines) {
        if (at >= first && at < last) continue;
        line.remove();
        lines.delete(at);
      }
      for (let at = first; at < last; at++) {
        if (lines.has(at)) continue;
        const line = el("div", { class: "line", role: "listitem", css: { top: `${at * height}px` } });
        lines.set(at, line);
        space.append(line);
        fill(at, line);
      }
    };
    let scheduled = false;
    box.addEventListener("scroll", () => {
      if (scheduled) return;
      scheduled = true;
      requestAnimationFrame(() => {
        scheduled = false;
        draw();
      });
    });
    requestAnimationFrame(draw);
    return box;
  };

  const show = (id) => {
    const root = byId("cluster");
    avssl.tiles.clear(root);
    current = id;
    const cluster = clusters.union(id);
    const top = el("header", { class: "head" }, ...head(id));
    const shown = el("div", {}, cluster.size ? avssl.overlay.bar() : null);
    const side = el("aside");
    if (cluster.classes.length) side.append(el("h2", {}, "Classes"), avssl.charts.classes(cluster));
    const near = clusters.nearest(id);
    if (near.length) side.append(el("h2", {}, term("similarity", "Nearest clusters")), chips(near.map(([one, alike]) => [one, percent(alike)])));
    if (cluster.same?.length)
      side.append(el("h2", {}, term("same", `In head ${avssl.base.head}`)), chips(cluster.same.map(([one, share]) => [one, percent(share), avssl.base.head])));
    const group = names.group(id);
    const all = el("section", {}, el("h2", {}, `All ${avssl.unit()}s`), cluster.size ? list(group) : el("p", { class: "nothing" }, "This cluster is empty."));
    root.replaceChildren(top, el("div", { class: "columns" }, shown, side), all);
    narrow.onchange = () => all.querySelector(".list")?.replaceWith(list(group)); // lines have another height
    tiles(id, shown);
    document.title = `${avssl.label(id)} · ${avssl.data.data}`;
  };

  return {
    show,
    cover,
    get current() {
      return current;
    },
    leave() {
      avssl.tiles.clear(byId("cluster"));
      byId("cluster").replaceChildren();
      current = null;
    },
    /** Update the page after a change of names: only its top, unless clusters were merged or split. */
    refresh(group) {
      if (current === null) return;
      if (JSON.stringify([names.merged(), names.group(current)]) !== group) return show(current);
      const focused = document.activeElement?.id;
      const old = byId("cluster").querySelector(".head");
      old.replaceChildren(...head(current));
      if (focused) byId(focused)?.focus();
    },
    listen() {
      const focused = document.activeElement?.closest?.(".tile");
      const figure = focused ?? byId("cluster").querySelector(".tile");
      if (figure?.tile.sound.isConnected) avssl.tiles.listen(figure.tile);
    },
  };
})();
