"use strict";
// The overview of all clusters: grid and map, search, sort and filter, and the facts of the run.
avssl.overview = (() => {
  const { byId, el, count, percent, names, clusters } = avssl;
  const CHUNK = 48; // cards that are added at a time
  const FILES = 300; // most files that a search lists
  let order = []; // clusters in the order shown
  let made = 0; // cards so far
  let view = "grid";
  let search = 0; // number of the newest search over files
  let withPreview = null; // rows of the chosen head

  const state = { scroll: 0 };

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

  const CALLED = { size: "largest", confidence: "surest", agreement: "agree most", purity: "purest", unnamed: "not named", disputed: "video and audio disagree" };

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
    const top = clusters.mostly(cluster);
    const covers = group.flatMap((one) => clusters.one(one).cover.slice(0, group.length > 1 ? 2 : 4).map((place) => avssl.row(avssl.position(one, place)))).slice(0, 4);
    const cover = el("div", { class: `cover of-${Math.max(1, covers.length)}` });
    covers.forEach((row) => cover.append(avssl.tiles.picture(row, "")));
    if (!covers.length) cover.append(el("span", { class: "none" }, cluster.size ? "no preview" : "empty"));
    const facts = el("span", { class: "soft facts-line" }, count(cluster.size));
    if (cluster.size) facts.append(" · ", avssl.terms.term("sure", `${percent(cluster.confidence.joint)} sure`, true));
    const title = names.title(id);
    const number = group.length > 1 ? `${id}+${group.length - 1}` : String(id);
    const purity = top && el(
      "span",
      { class: "mostly", "data-term": "purity" },
      el("i", { class: "bar", css: { "--share": cluster.purity } }),
      el("span", { class: "soft", title: top }, top),
    );
    const said = [title || "not named", facts.textContent, top, mark && (mark === "star" ? "starred" : "rejected")];
    return el(
      "a",
      { class: `card ${mark ?? ""}`, href: avssl.address(id), "data-id": id, "aria-label": `cluster ${id}, ${said.filter(Boolean).join(", ")}` },
      cover,
      el("span", { class: "headline" }, el("b", { class: "number" }, number), el("span", { class: title ? "name" : "name guess" }, title || (avssl.chosen && cluster.size ? "not named" : "")), mark ? el("span", { class: "mark" }, mark === "star" ? "★" : "✕") : null),
      facts,
      purity,
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
    const merged = clusters.all();
    order = merged
      .filter((c) => keep(c) && matches(c, find) && (chosen === "" || c.classes.some(([id]) => id === Number(chosen))))
      .sort((a, b) => sorts[byId("sort").value](a, b) || a.id - b.id);
    const kept = made;
    made = 0;
    byId("grid").replaceChildren();
    do more();
    while (made < Math.min(kept, order.length));
    byId("grid").hidden = view !== "grid";
    byId("map").hidden = view !== "map";
    if (view === "map" && !byId("overview").hidden) avssl.map.show(order);
    byId("nothing").hidden = order.length > 0;
    byId("shown").value = order.length === merged.length ? "" : `${order.length} of ${merged.length} clusters`;
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
    const stored = avssl.base.cluster.filter((c) => c.size);
    for (const cluster of stored) {
      if (number !== search) return; // a newer search has begun
      if (done === 0) list.replaceChildren();
      for (let part = 0; part < cluster.shards; part++) {
        const shard = await avssl.shard(cluster.id, part).catch((error) => void avssl.notice(error.message));
        if (number !== search) return;
        shard?.path.forEach((path, i) => {
          const lower = path.toLowerCase();
          if (!find.every((word) => lower.includes(word)) || ++matching > FILES) return;
          const link = avssl.link(shard.url[i]);
          const id = avssl.clusterOf(avssl.base.start[cluster.id] + part * avssl.ROWS + i);
          const time = avssl.time({ start: shard.start[i], end: shard.end?.[i] });
          list.append(
            el("li", {}, el("a", { href: avssl.address(id) }, avssl.labels.of(id)), " ", el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener" }, path), time ? el("span", { class: "soft" }, ` ${time}`) : null),
          );
        });
      }
      done++;
      const limit = matching > FILES ? `, the first ${FILES} shown` : "";
      line.textContent = `${count(matching, "file")} with a matching name${limit}${done < stored.length ? `; ${done} of ${stored.length} clusters searched` : ""}`;
      hits.hidden = matching === 0 && done === stored.length;
    }
  };

  const set = (to) => {
    view = to;
    byId("as-grid").setAttribute("aria-pressed", String(to === "grid"));
    byId("as-map").setAttribute("aria-pressed", String(to === "map"));
    show();
  };

  /** What is said of the run, in one line; the rest is folded. All of it is of merged clusters. */
  const about = () => {
    const { data } = avssl;
    const all = clusters.all();
    const facts = [avssl.windows() ? `${count(data.videos)} of ${count(data.files, "video")}` : count(data.videos)];
    const merged = data.clusters - all.length;
    const empty = all.filter((c) => !c.size).length;
    facts.push(count(all.length, "cluster") + (merged ? ` (${merged} merged away)` : ""));
    if (empty) facts.push(`${empty} empty`);
    if (data.undecodable) facts.push(`${count(data.undecodable)} could not be decoded`);
    byId("facts").textContent = facts.join(" · ");
    byId("notes").textContent = avssl.chosen ? data.notes.join("; ") : "";
    if (byId("about").open) byId("sizes").replaceChildren(...avssl.charts.sizes(all, merged ? null : data.marginal, data.videos));
    const naming = clusters.nameable();
    const done = naming.filter((c) => names.title(c.id)).length;
    byId("named").hidden = !avssl.chosen || !naming.length;
    byId("named").textContent = `${done} of ${naming.length} named`;
    byId("named").disabled = done === naming.length;
    byId("named").title = done === naming.length ? "all clusters have names" : "open the next cluster without a name (n)";
  };

  /** The table of figures. */
  const figures = (table) => {
    if (!table) return;
    byId("figures").hidden = false;
    const [grid, note] = [byId("figures").querySelector("table"), byId("figures").querySelector("p")];
    const heading = (text) => {
      const key = text.replace(/\s+/g, " ");
      return el("th", { scope: "col" }, avssl.terms.has(key) ? avssl.terms.term(key, text) : text);
    };
    grid.append(el("thead", {}, el("tr", {}, ...table.headings.map(heading))));
    grid.append(el("tbody", {}, ...table.rows.map((row, i, all) => el("tr", { class: i && row[0] !== all[i - 1][0] ? "starts" : "" }, ...row.map((text) => el("td", {}, text))))));
    note.textContent = table.notes;
  };

  /** The training curves, once their panel is opened. */
  const course = async () => {
    if (!byId("course").open) return;
    const curves = await avssl.once("curves").catch((error) => void avssl.notice(error.message));
    const plots = curves ? avssl.charts.course(curves, avssl.data.head) : [];
    byId("course").querySelector(".plots").replaceChildren(...(plots.length ? plots : [el("p", { class: "note" }, "This run has no log of its training.")]));
  };

  const start = () => {
    const { data } = avssl;
    figures(data.table);
    byId("about").addEventListener("toggle", about);
    byId("course").hidden = !data.curves;
    byId("course").addEventListener("toggle", course);
    const option = (value, text = CALLED[value] ?? value) => el("option", { value }, text);
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
    end.observe(byId("end"));
  };

  return {
    start,
    state,
    /** Show all that has changed: names, or the head. */
    show() {
      about();
      show();
    },
    course,
    /** Has a row of the chosen head a preview? */
    previewed(row) {
      withPreview ??= new Set(avssl.base.cluster.flatMap(({ id, shown }) => Object.values(shown).flat().map((place) => avssl.base.start[id] + place)));
      return withPreview.has(row);
    },
    toggle: () => set(view === "grid" ? "map" : "grid"),
    get view() {
      return view;
    },
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
