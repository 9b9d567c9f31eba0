"use strict";
// Shows the overview or a cluster, by the address; handles keys, heads and the header.
(() => {
  const { byId, el, names } = avssl;
  avssl.label = avssl.labels.label;
  const narrow = matchMedia("(max-width: 640px)");

  /** The head and the cluster in the address: the chosen head, and null for all clusters, if it has none. */
  const inAddress = () => {
    const { base } = avssl;
    const number = (name, limit) => {
      const match = new RegExp(`[#&]${name}=(\\d+)(&|$)`).exec(location.hash);
      return match && Number(match[1]) < limit ? Number(match[1]) : null;
    };
    return { head: number("head", base.heads) ?? base.head, cluster: number("cluster", base.clusters) };
  };

  /** Show another head: its clusters, and that they have no names. */
  const choose = async (head) => {
    await avssl.choose(head);
    const { base, data } = avssl;
    byId("head").value = String(head);
    const warning = byId("other-head");
    warning.hidden = avssl.chosen;
    warning.replaceChildren(
      `Head ${data.head} is not the head chosen without classes. Names belong to head ${base.head}, so clusters get no names here. `,
      el("a", { href: `#head=${base.head}` }, `Back to head ${base.head}`),
    );
    for (const id of ["undo", "download", "import"]) byId(id).hidden = !avssl.chosen;
    avssl.overview.show();
    avssl.overview.course();
    showSaved();
  };

  let group = "";
  const remember = () => (group = avssl.page.current === null ? "" : JSON.stringify([names.merged(), names.group(avssl.page.current)]));

  let routes = 0;
  const route = async () => {
    const number = ++routes;
    const { head, cluster: id } = inAddress();
    avssl.notice("");
    const before = avssl.page.current;
    if (before === null && id !== null) avssl.overview.state.scroll = scrollY;
    const other = head !== avssl.data.head;
    if (other) {
      avssl.page.leave();
      try {
        await choose(head);
      } catch (error) {
        return void avssl.notice(error.message);
      }
      if (number !== routes) return; // another address came meanwhile
      avssl.overview.state.scroll = 0;
    }
    byId("overview").hidden = id !== null;
    byId("cluster").hidden = id === null;
    if (id === null) {
      avssl.page.leave();
      document.title = `Clusters · ${avssl.data.data}`;
      if (avssl.overview.view === "map") avssl.overview.show();
      scrollTo(0, avssl.overview.state.scroll);
      if (before !== null && !other) document.querySelector(`.card[data-id="${before}"]`)?.focus({ preventScroll: true });
    } else {
      avssl.page.show(id);
      scrollTo(0, 0);
      byId("main").focus({ preventScroll: true });
    }
    remember();
  };

  let fading = 0;
  /** A line at the bottom that disappears after a while, with a button. */
  avssl.toast = (text, action, act) => {
    const line = byId("toast");
    const hide = () => (line.hidden = true);
    const button = action ? el("button", { type: "button", onclick: () => (hide(), act()) }, action) : null;
    line.replaceChildren(...[el("span", {}, text), button, el("button", { type: "button", "aria-label": "close", onclick: hide }, "✕")].filter(Boolean));
    line.hidden = false;
    clearTimeout(fading);
    fading = setTimeout(hide, 15000);
  };

  const showSaved = () => {
    const words = [];
    if (names.changed) words.push("not downloaded yet");
    if (!names.stored) words.push(`this browser cannot store these names: ${names.changed ? "download them" : "keep names.json"} before you close the page`);
    byId("saved").textContent = avssl.chosen ? words.join("; ") : "";
    byId("menu").classList.toggle("unsaved", words.length > 0);
    byId("undo").disabled = !names.undoable;
  };

  const theme = (name) => {
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
  };

  const openNeighbour = (by) => {
    const { order } = avssl.overview;
    const at = order.findIndex((c) => c.id === avssl.page.current);
    const next = order[at < 0 ? 0 : at + by];
    if (next) location.hash = avssl.address(next.id);
  };

  const focusName = () => byId("field-name")?.focus();
  /** Open a cluster, then do something. */
  const open = (id, then) => {
    if (avssl.page.current === id) return then();
    addEventListener("hashchange", () => setTimeout(then), { once: true }); // once the page exists
    location.hash = avssl.address(id);
  };

  let asked = null; // the cluster whose name was asked for last
  /** Ask for the name of cluster `id`, or of the next one without a name. */
  const nameNext = (id) => {
    if (!avssl.chosen) return;
    const missing = new Set(avssl.clusters.nameable().filter((c) => !names.title(c.id)).map((c) => c.id));
    const listed = avssl.overview.order.map((c) => c.id);
    const ids = listed.some((one) => missing.has(one)) ? listed : avssl.clusters.all().map((c) => c.id); // a filter may hide them all
    const at = ids.indexOf(id);
    const next = missing.has(id) && asked !== id ? id : [...ids.slice(at + 1), ...ids.slice(0, at + 1)].find((one) => missing.has(one));
    if (next === undefined) return avssl.toast("All clusters have names.");
    asked = next;
    open(next, focusName);
  };

  avssl.nextUnnamed = (id) => {
    asked = id; // not this one
    nameNext(id);
  };

  const focusedCard = () => {
    const card = document.activeElement?.closest?.(".card");
    return card ? Number(card.dataset.id) : null;
  };

  const keys = (event) => {
    if (event.key === "Escape" && avssl.terms.shown) return avssl.terms.hide();
    if (event.key === "Escape" && document.documentElement.classList.contains("menu")) return menu(false);
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.("input:not([type=range]), select, textarea");
    if (event.key === "Escape" && (!typing || event.target.id === "search")) {
      if (typing) event.target.blur();
      else if (avssl.page.current !== null) location.hash = avssl.address();
      return;
    }
    if (typing || (event.target.matches?.("input") && /^(Arrow|Home|End|Page)/.test(event.key))) return;
    const current = avssl.page.current;
    const id = current ?? focusedCard();
    const inList = event.target.closest?.(".list");
    const columns = avssl.overview.columns();
    const move = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (move && current !== null && (event.key.startsWith("Arrow") ? /Left|Right/.test(event.key) && !inList : true)) openNeighbour(Math.sign(move));
    else if (move && current === null && (focusedCard() !== null || !event.key.startsWith("Arrow"))) avssl.overview.move(move);
    else if (event.key === "/") {
      if (current !== null) location.hash = avssl.address();
      setTimeout(() => byId("search").focus());
    } else if (event.key === "n") nameNext(id);
    else if (event.key === "e" && id !== null) open(id, focusName);
    else if (event.key === "s" && id !== null) names.mark(id, "star");
    else if (event.key === "x" && id !== null) names.mark(id, "reject");
    else if (event.key === "m" && id !== null) avssl.merging.open(id);
    else if (event.key === "u") names.undo();
    else if (event.key === "p" && current !== null) avssl.page.listen();
    else if (current !== null && avssl.overlay.key(event.key)) return void event.preventDefault();
    else if (event.key === "g" && current === null) avssl.overview.toggle();
    else if (event.key === "?") byId("help").showModal();
    else return;
    event.preventDefault();
  };

  const menu = (show) => {
    document.documentElement.classList.toggle("menu", show);
    byId("menu").setAttribute("aria-expanded", String(show));
  };
  /** On a narrow screen the tools are in one menu. */
  const arrange = () => {
    menu(false);
    if (narrow.matches) byId("tools").prepend(byId("more"));
    else byId("search").after(byId("more"));
  };

  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
    } catch {
      getSelection().selectAllChildren(byId("command")); // for a browser that gives a page from the file system no clipboard
      if (!document.execCommand("copy")) return;
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };

  const load = async ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (!file) return;
    try {
      avssl.notice(names.load(await file.text()));
      avssl.toast(`${names.counted()} loaded from ${file.name}.`);
    } catch (error) {
      avssl.notice(`Cannot load ${file.name}: ${error.message}`);
    }
  };

  const turnTheme = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    theme(next);
    avssl.keep("avssl:theme", next);
    avssl.map.draw();
  };

  /** Merged clusters need the similarities of all pairs. */
  const similarities = async () => {
    if (!names.merged() || !(await avssl.clusters.load())) return;
    if (avssl.page.current !== null) avssl.page.show(avssl.page.current);
  };

  const renamed = () => {
    const focused = focusedCard();
    byId("applying").hidden = true; // the downloaded file no longer holds all
    avssl.overview.show();
    avssl.page.refresh(group);
    avssl.labels.refresh();
    remember();
    showSaved();
    if (focused !== null) document.querySelector(`.card[data-id="${focused}"]`)?.focus({ preventScroll: true });
    similarities();
  };

  const listen = () => {
    const click = (id, act) => byId(id).addEventListener("click", act);
    names.listen(renamed);
    avssl.previews.listen(avssl.tiles.refresh);
    click("undo", () => names.undo());
    click("download", () => {
      if (names.empty && !names.changed) return avssl.toast("Nothing is named yet: open a cluster and give it a name first.");
      names.download();
      byId("command").textContent = avssl.base.command;
      byId("applying").hidden = !avssl.base.command;
      menu(false);
    });
    click("copy", ({ target }) => copy(target));
    click("applied", () => (byId("applying").hidden = true));
    click("import", () => byId("file").click());
    byId("file").addEventListener("change", load);
    click("theme", turnTheme);
    click("keys", () => byId("help").showModal());
    click("named", () => nameNext(avssl.page.current));
    click("home", (event) => {
      event.preventDefault();
      location.hash = avssl.address();
    });
    byId("head").addEventListener("change", ({ target }) => (location.hash = `#head=${target.value}`));
    click("menu", () => menu(!document.documentElement.classList.contains("menu")));
    for (const id of ["as-grid", "as-map", "keys"]) click(id, () => menu(false));
    narrow.addEventListener("change", arrange);
    addEventListener("hashchange", route);
    addEventListener("keydown", keys);
  };

  avssl.start = () => {
    const { base } = avssl;
    theme(avssl.recall("avssl:theme"));
    byId("data").textContent = `of ${base.data} · ${base.run}, step ${base.step}`;
    byId("data").title = byId("data").textContent;
    byId("by-head").hidden = base.heads < 2;
    byId("few").textContent = base.too_few ?? "";
    byId("few").hidden = !base.too_few;
    byId("head").append(...Array.from({ length: base.heads }, (_, head) => el("option", { value: head, selected: head === base.head }, head === base.head ? `${head} (chosen)` : String(head))));
    names.start();
    for (const part of ["overlay", "terms", "previews", "viewer", "overview"]) avssl[part].start();
    listen();
    arrange();
    avssl.overview.show();
    route();
    showSaved();
    similarities();
  };
})();
