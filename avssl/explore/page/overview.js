"use strict";
// The overview of all clusters: grid and map, search, sort and filter.
avssl.overview = (() => {
  const { byId, el, count, percent, names } = avssl;
  const CHUNK = 48; // cards that are added at a time
  const FILES = 300; // most files that a search lists
  let order = []; // clusters in the order shown
  let made = 0; // cards so far
  let view = "grid";
  let search = 0; // number of the newest search over files

  const state = { scroll: 0 };
  const by = new Map();

  /** A cluster together with the clusters merged into it: counts are summed, means are weighted by size. */
  const union = (id) => {
    const parts = names.group(id).map((one) => by.get(one));
    if (parts.length === 1) return parts[0];
    const size = parts.reduce((sum, part) => sum + part.size, 0);
    const mean = (get) => {
      const defined = parts.filter((part) => get(part) !== null && part.size);
      const weight = defined.reduce((sum, part) => sum + part.size, 0);
      return weight ? defined.reduce((sum, part) => sum + part.size * get(part), 0) / weight : null;
    };
    const tally = new Map();
    for (const part of parts) for (const [id, n] of part.classes) tally.set(id, (tally.get(id) ?? 0) + n);
    const classes = [...tally].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const other = parts.reduce((sum, part) => sum + part.other_classes, 0);
    const total = classes.reduce((sum, [, n]) => sum + n, other);
    return {
      ...parts[0],
      size,
      classes,
      other_classes: other,
      purity: total ? classes[0][1] / total : null,
      agreement: mean((part) => part.agreement),
      confidence: { joint: mean((p) => p.confidence.joint), video: mean((p) => p.confidence.video), audio: mean((p) => p.confidence.audio) },
    };
  };

  const sorts = {
    size: (a, b) => b.size - a.size,
    confidence: (a, b) => (b.confidence.joint ?? -1) - (a.confidence.joint ?? -1),
    agreement: (a, b) => (b.agreement ?? -1) - (a.agreement ?? -1),
    purity: (a, b) => (b.purity ?? -1) - (a.purity ?? -1),
    name: (a, b) => (names.title(a.id) || "\uffff").localeCompare(names.title(b.id) || "\uffff"),
    number: () => 0,
  };

  const filters = {
    all: () => true,
    named: (c) => Boolean(names.title(c.id)),
    unnamed: (c) => !names.title(c.id),
    starred: (c) => names.of(c.id).mark === "star",
    rejected: (c) => names.of(c.id).mark === "reject",
    merged: (c) => names.group(c.id).length > 1,
    disputed: (c) => c.agreement !== null && c.agreement < 0.5,
  };

  const matches = (cluster, words) => {
    const { classes } = avssl.data;
    const entries = names.group(cluster.id).map((id) => `${id} ${names.of(id).name ?? ""} ${names.of(id).note ?? ""}`);
    const text = `${entries.join(" ")} ${cluster.classes.slice(0, 10).map(([id]) => classes[id]).join(" ")}`.toLowerCase();
    return words.every((word) => (/^#\d+$/.test(word) ? names.group(cluster.id).includes(Number(word.slice(1))) : text.includes(word)));
  };

  const words = () => byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);

  const card = (cluster) => {
    const { id } = cluster;
    const { mark, note } = names.of(id);
    const group = names.group(id);
    const top = cluster.classes[0] ? avssl.data.classes[cluster.classes[0][0]] : null;
    const covers = group.flatMap((one) => by.get(one).cover.slice(0, group.length > 1 ? 2 : 4).map((row) => [one, row])).slice(0, 4);
    const cover = el("div", { class: `cover of-${Math.max(1, covers.length)}` });
    covers.forEach(([one, row]) => cover.append(avssl.tiles.picture(one, row, "")));
    if (!covers.length) cover.append(el("span", { class: "none" }, cluster.size ? "no preview" : "empty"));
    const facts = [count(cluster.size), cluster.size ? `${percent(cluster.confidence.joint)} confident` : null];
    if (cluster.purity !== null) facts.push(`${percent(cluster.purity)} pure`);
    const title = names.title(id);
    return el(
      "a",
      { class: `card ${mark ?? ""}`, href: `#cluster=${id}`, "data-id": id, "aria-label": `cluster ${id} ${title}, ${facts.filter(Boolean).join(", ")}${mark ? `, ${mark === "star" ? "starred" : "rejected"}` : ""}` },
      cover,
      el("span", { class: "headline" }, el("b", { class: "number" }, group.length > 1 ? `${id}+${group.length - 1}` : String(id)), el("span", { class: title ? "name" : "name guess" }, title || top || ""), mark ? el("span", { class: "mark" }, mark === "star" ? "★" : "✕") : null),
      el("span", { class: "soft" }, facts.filter(Boolean).join(" · ")),
      note ? el("span", { class: "soft note" }, note) : null,
    );
  };

  const more = () => {
    const grid = byId("grid");
    grid.append(...order.slice(made, made + CHUNK).map(card));
    made = Math.min(order.length, made + CHUNK);
  };
  const end = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting) && made < order.length) {
        more();
        end.unobserve(byId("end"));
        end.observe(byId("end")); // calls back again if the end is still in view
      }
    },
    { rootMargin: "900px" },
  );

  const show = () => {
    const find = words();
    const chosen = byId("class").value;
    const keep = filters[byId("filter").value] ?? filters.all;
    const merged = avssl.data.cluster.filter((c) => names.target(c.id) === c.id).map((c) => union(c.id));
    order = merged
      .filter((c) => keep(c) && matches(c, find) && (chosen === "" || c.classes.some(([id]) => id === Number(chosen))))
      .sort((a, b) => sorts[byId("sort").value](a, b) || a.id - b.id);
    const kept = made;
    made = 0;
    byId("grid").replaceChildren();
    do more();
    while (made < Math.min(kept, order.length));
    byId("map").replaceChildren(...(view === "map" ? avssl.charts.map(order) : []));
    byId("grid").hidden = view !== "grid";
    byId("map").hidden = view !== "map";
    byId("nothing").hidden = order.length > 0;
    byId("shown").value = order.length === merged.length ? `${merged.length} clusters` : `${order.length} of ${merged.length} clusters`;
  };

  /** Search the file names of every cluster, one script after the other. */
  const files = async () => {
    const number = ++search;
    const find = words();
    const hits = byId("hits");
    hits.hidden = true;
    if (find.join("").length < 2) return;
    await new Promise((resolve) => setTimeout(resolve, 350));
    const list = hits.querySelector("ul");
    const line = hits.querySelector("p");
    let matching = 0;
    let done = 0;
    const clusters = avssl.data.cluster.filter((c) => c.size);
    for (const cluster of clusters) {
      if (number !== search) return; // a newer search has begun
      if (done === 0) list.replaceChildren();
      for (let part = 0; part < cluster.shards; part++) {
        const shard = await avssl.shard(cluster.id, part).catch((error) => void avssl.notice(error.message));
        if (number !== search) return;
        shard?.path.forEach((path, i) => {
          const lower = path.toLowerCase();
          if (!find.every((word) => lower.includes(word)) || ++matching > FILES) return;
          const link = avssl.link(shard.url[i]);
          list.append(
            el("li", {}, el("a", { href: `#cluster=${cluster.id}` }, avssl.label(cluster.id)), " ", el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener" }, path)),
          );
        });
      }
      done++;
      const limit = matching > FILES ? `, the first ${FILES} shown` : "";
      line.textContent = `${count(matching, "file")} with a matching name${limit}${done < clusters.length ? `; ${done} of ${clusters.length} clusters searched` : ""}`;
      hits.hidden = matching === 0 && done === clusters.length;
    }
  };

  const set = (to) => {
    view = to;
    byId("as-grid").setAttribute("aria-pressed", String(to === "grid"));
    byId("as-map").setAttribute("aria-pressed", String(to === "map"));
    show();
  };

  const start = () => {
    const { data } = avssl;
    for (const cluster of data.cluster) by.set(cluster.id, cluster);
    const ofFiles = data.files < data.videos ? ` of ${count(data.files, "video")}` : "";
    const facts = [count(data.videos) + ofFiles, count(data.clusters, "cluster")];
    const empty = data.cluster.filter((c) => !c.size).length;
    if (empty) facts.push(`${empty} of them empty`);
    facts.push(...data.notes);
    if (data.undecodable) facts.push(`${count(data.undecodable)} could not be decoded`);
    byId("facts").append(...facts.map((fact) => el("li", {}, fact)));
    byId("sizes").append(...avssl.charts.sizes(data.cluster, data.marginal, data.videos));
    if (data.table) {
      byId("figures").hidden = false;
      const [table, note] = [byId("figures").querySelector("table"), byId("figures").querySelector("p")];
      table.append(el("thead", {}, el("tr", {}, ...data.table.headings.map((text) => el("th", { scope: "col" }, text)))));
      table.append(el("tbody", {}, ...data.table.rows.map((row, i, all) => el("tr", { class: i && row[0] !== all[i - 1][0] ? "starts" : "" }, ...row.map((text) => el("td", {}, text))))));
      note.textContent = data.table.notes;
    }
    const option = (value, text = value) => el("option", { value }, text);
    const available = Object.keys(sorts).filter((name) => name !== "purity" || data.classes.length);
    byId("sort").append(...available.map((name) => option(name)));
    byId("filter").append(...Object.keys(filters).map((name) => option(name)));
    byId("by-class").hidden = !data.classes.length;
    byId("class").append(option("", "any"), ...data.classes.map((name, id) => option(id, name)));
    for (const id of ["sort", "filter", "class"]) byId(id).addEventListener("change", show);
    byId("search").addEventListener("input", () => {
      show();
      files();
    });
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("as-grid").addEventListener("click", () => set("grid"));
    byId("as-map").addEventListener("click", () => set("map"));
    byId("grid").after(el("div", { id: "end" }));
    show();
    end.observe(byId("end"));
  };

  return {
    start,
    show,
    union,
    state,
    cluster: (id) => by.get(id),
    toggle: () => set(view === "grid" ? "map" : "grid"),
    get order() {
      return order;
    },
    /** Move the focus by `by` cards. */
    move(by) {
      const cards = [...byId("grid").children];
      const at = cards.indexOf(document.activeElement);
      const next = cards[at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + by))];
      next?.focus();
      next?.scrollIntoView({ block: "nearest" });
    },
    columns: () => getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length,
  };
})();
