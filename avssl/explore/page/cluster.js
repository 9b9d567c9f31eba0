"use strict";
// The page of one cluster: its videos, its classes, the nearest clusters, and the list of all its videos.
avssl.page = (() => {
  const { byId, el, count, percent, names } = avssl;
  const LINE = 34; // height of a line of the list, px
  let current = null;

  const field = (id, key, label, placeholder) => {
    const input = el("input", { id: `field-${key}`, type: "text", value: names.of(id)[key] ?? "", placeholder, autocomplete: "off", spellcheck: "false", "aria-label": label });
    input.addEventListener("change", () => names[key](id, input.value));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") input.blur();
      if (event.key === "Escape") {
        input.value = names.of(id)[key] ?? "";
        input.blur();
        event.stopPropagation();
      }
    });
    return input;
  };

  const tools = (id) => {
    const { mark } = names.of(id);
    const button = (text, title, pressed, onclick) => el("button", { type: "button", title, "aria-pressed": pressed === null ? null : String(pressed), onclick }, text);
    return el(
      "div",
      { class: "tools" },
      button("★ Star", "star (s)", mark === "star", () => names.mark(id, "star")),
      button("✕ Reject", "leave out of the labelled data set (x)", mark === "reject", () => names.mark(id, "reject")),
      button("Merge into…", "merge into another cluster (m)", null, () => merge(id)),
    );
  };

  const chips = (ids, text) =>
    el("ul", { class: "chips" }, ...ids.map(([id, note]) => el("li", {}, el("a", { href: `#cluster=${id}`, title: text }, cover(id), el("span", {}, avssl.label(id)), note ? el("span", { class: "soft" }, note) : null))));

  const cover = (id) => {
    const { cover: rows } = avssl.overview.cluster(id);
    return rows.length ? avssl.tiles.picture(id, rows[0], "") : el("span", { class: "none" });
  };

  const meter = (name, value, title) =>
    el("div", { title }, el("dt", {}, name), el("dd", { css: { "--share": value ?? 0 } }, percent(value)));

  /** The parts of the page that change with names. */
  const head = (id) => {
    const cluster = avssl.overview.union(id);
    const group = names.group(id);
    const nodes = [];
    if (names.target(id) !== id)
      nodes.push(el("p", { class: "notice" }, "Merged into ", el("a", { href: `#cluster=${names.target(id)}` }, avssl.label(names.target(id))), ". ", el("button", { type: "button", onclick: () => names.split(id) }, "Split out again")));
    const { order } = avssl.overview;
    const at = order.findIndex((c) => c.id === id);
    const step = (by, text, title) => {
      const to = order[at + by];
      return el("a", { class: to ? "step" : "step off", href: to ? `#cluster=${to.id}` : null, title }, text);
    };
    nodes.push(
      el("div", { class: "heading" }, el("a", { class: "step", href: "#", title: "all clusters (Esc)" }, "← all"), el("h1", {}, `Cluster ${id}`), field(id, "name", "name of the cluster", "name it ( n )"), step(-1, "‹", "previous cluster (k)"), step(1, "›", "next cluster (j)")),
      tools(id),
      field(id, "note", "note on the cluster", "a note"),
    );
    const facts = [count(cluster.size)];
    if (group.length > 1) facts.push(`${group.length} merged clusters`);
    if (cluster.purity !== null) facts.push(`${percent(cluster.purity)} pure`);
    nodes.push(
      el("ul", { class: "facts" }, ...facts.map((fact) => el("li", {}, fact))),
      el("dl", { class: "meters" }, meter("confidence", cluster.confidence.joint, "mean confidence from video and audio"), meter("video", cluster.confidence.video, "mean confidence from video alone"), meter("audio", cluster.confidence.audio, "mean confidence from audio alone"), meter("agreement", cluster.agreement, `${avssl.unit()}s with the same label from video alone and from audio alone`)),
    );
    const { sound } = avssl.overview.cluster(id);
    if (sound) nodes.push(el("p", { class: "soft heard", title: "the audio of the most confident videos that have a preview" }, `Audio: ${sound.text}`));
    if (group.length > 1)
      nodes.push(el("h2", {}, "Merged here"), el("ul", { class: "chips" }, ...group.slice(1).map((one) => el("li", {}, el("a", { href: `#cluster=${one}` }, cover(one), el("span", {}, avssl.label(one))), el("button", { type: "button", "aria-label": `split ${avssl.label(one)} out`, onclick: () => names.split(one) }, "split out")))));
    return nodes;
  };

  const kinds = { confident: "Most confident", random: "At random", least: "Least confident" };

  const tiles = async (id, holder) => {
    const group = names.group(id);
    for (const [kind, title] of Object.entries(kinds)) {
      const places = group.flatMap((one) => avssl.overview.cluster(one).shown[kind].map((row) => [one, row]));
      if (!places.length) continue;
      const grid = el("div", { class: "tiles" });
      holder.append(el("h2", {}, title), grid);
      for (const [one, row] of places) {
        const video = await avssl.video(one, row).catch((error) => void avssl.notice(error.message));
        if (!holder.isConnected) return;
        if (video) grid.append(avssl.tiles.tile(one, row, video));
      }
    }
  };

  /** A list of all videos of a group of clusters; only the lines in view are part of the page. */
  const list = (group) => {
    const parts = group.map((id) => avssl.overview.cluster(id));
    const total = parts.reduce((sum, part) => sum + part.size, 0);
    const space = el("div", { class: "space", css: { height: `${total * LINE}px` } });
    const box = el("div", { class: "list", tabindex: "0", role: "list", "aria-label": `all ${count(total)}` }, space);
    const lines = new Map();
    const locate = (at) => {
      for (const part of parts) {
        if (at < part.size) return [part.id, at];
        at -= part.size;
      }
      return null;
    };
    const fill = async (at, line) => {
      const [id, row] = locate(at);
      const video = await avssl.video(id, row).catch((error) => void avssl.notice(error.message));
      if (!video || !line.isConnected) return;
      const link = avssl.link(video.url);
      const differ = video.video >= 0 && video.audio >= 0 && video.video !== video.audio;
      line.append(
        el("i", { css: { "--share": video.confidence ?? 0 }, title: "confidence" }, percent(video.confidence)),
        el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener", title: video.path }, video.path, video.start > 0 ? `  from ${video.start} s` : ""),
        el("span", { class: "soft" }, video.class >= 0 ? avssl.data.classes[video.class] : ""),
        el("span", { class: differ ? "differ" : "soft" }, differ ? `${video.video} / ${video.audio}` : ""),
      );
    };
    const draw = () => {
      const first = Math.max(0, Math.floor(box.scrollTop / LINE) - 8);
      const last = Math.min(total, first + Math.ceil((box.clientHeight || 400) / LINE) + 16);
      for (const [at, line] of lines) {
        if (at >= first && at < last) continue;
        line.remove();
        lines.delete(at);
      }
      for (let at = first; at < last; at++) {
        if (lines.has(at)) continue;
        const line = el("div", { class: "line", role: "listitem", css: { top: `${at * LINE}px` } });
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

  const merge = (id) => {
    const dialog = byId("merge");
    const search = byId("merge-search");
    byId("merge-title").textContent = `Merge ${avssl.label(id)} into`;
    const near = new Map(avssl.overview.cluster(id).nearest);
    const fill = () => {
      const find = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const exact = (c) => find.includes(String(c.id)); // a cluster's own number first: "9" is part of "cluster_019" too
      const others = avssl.data.cluster
        .filter((c) => c.id !== id && names.target(c.id) === c.id)
        .filter((c) => find.every((word) => `${c.id} ${names.title(c.id)} ${c.classes.slice(0, 3).map(([k]) => avssl.data.classes[k]).join(" ")}`.toLowerCase().includes(word)))
        .sort((a, b) => exact(b) - exact(a) || (near.get(b.id) ?? 0) - (near.get(a.id) ?? 0) || a.id - b.id)
        .slice(0, 60);
      byId("merge-list").replaceChildren(
        ...others.map((c) =>
          el("li", {}, el("button", { type: "button", onclick: () => {
            dialog.close();
            names.merge(id, c.id);
            location.hash = `#cluster=${names.target(id)}`;
          } }, cover(c.id), avssl.label(c.id), el("span", { class: "soft" }, ` ${count(c.size)}${near.has(c.id) ? ", near" : ""}`))),
        ),
      );
    };
    search.value = "";
    search.oninput = fill;
    search.onkeydown = (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      byId("merge-list").querySelector("button")?.click();
    };
    fill();
    dialog.showModal();
    search.focus();
  };

  const show = (id) => {
    const root = byId("cluster");
    avssl.tiles.clear(root);
    current = id;
    const cluster = avssl.overview.cluster(id);
    const top = el("header", { class: "head" }, ...head(id));
    const shown = el("div");
    const side = el("aside");
    if (cluster.classes.length) side.append(el("h2", {}, "Classes"), avssl.charts.classes(avssl.overview.union(id)));
    if (cluster.nearest.length)
      side.append(el("h2", {}, "Nearest clusters"), chips(cluster.nearest.map(([one, alike]) => [one, percent(alike)]), "similarity of their mean features"));
    const group = names.group(id);
    const all = el("section", {}, el("h2", {}, `All ${avssl.unit()}s`), avssl.overview.union(id).size ? list(group) : el("p", { class: "nothing" }, "This cluster is empty."));
    root.replaceChildren(top, el("div", { class: "columns" }, shown, side), all);
    tiles(id, shown);
    document.title = `${avssl.label(id)} · ${avssl.data.data}`;
  };

  return {
    show,
    merge,
    get current() {
      return current;
    },
    leave() {
      avssl.tiles.clear(byId("cluster"));
      byId("cluster").replaceChildren();
      current = null;
    },
    /** Update the page after a change of names: only the head, unless clusters were merged or split. */
    refresh(group) {
      if (current === null) return;
      if (JSON.stringify(names.group(current)) !== group) return show(current);
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
