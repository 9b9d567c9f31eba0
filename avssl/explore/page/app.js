"use strict";
// Shows the overview or a cluster, by the address; handles keys and the header.
(() => {
  const { byId, el, names } = avssl;
  avssl.label = (id) => names.title(id) || `cluster ${id}`;

  const KEYS = [
    ["/", "search"], ["j k  ↓ ↑  ← →", "next, previous"], ["Enter", "open"], ["Esc", "all clusters"],
    ["n", "name"], ["s", "star"], ["x", "reject"], ["m", "merge into another"], ["u", "undo"], ["p", "audio on and off"],
    ["g", "grid or map"], ["?", "these keys"],
  ];

  const clusterInAddress = () => {
    const match = /^#cluster=(\d+)$/.exec(location.hash);
    return match && Number(match[1]) < avssl.data.clusters ? Number(match[1]) : null;
  };

  let group = "";
  const remember = () => (group = avssl.page.current === null ? "" : JSON.stringify(names.group(avssl.page.current)));

  const route = () => {
    const id = clusterInAddress();
    avssl.notice("");
    const before = avssl.page.current;
    if (before === null && id !== null) avssl.overview.state.scroll = scrollY;
    byId("overview").hidden = id !== null;
    byId("cluster").hidden = id === null;
    if (id === null) {
      avssl.page.leave();
      document.title = `Clusters · ${avssl.data.data}`;
      scrollTo(0, avssl.overview.state.scroll);
      if (before !== null) document.querySelector(`.card[data-id="${before}"]`)?.focus({ preventScroll: true });
    } else {
      avssl.page.show(id);
      scrollTo(0, 0);
      byId("main").focus({ preventScroll: true });
    }
    remember();
  };

  const showSaved = () => {
    const warning = names.stored ? "" : " (this browser stores nothing: download before you close the page)";
    byId("saved").textContent = names.changed ? `not downloaded yet${warning}` : "";
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
    if (next) location.hash = `#cluster=${next.id}`;
  };

  const focusedCard = () => {
    const card = document.activeElement?.closest?.(".card");
    return card ? Number(card.dataset.id) : null;
  };

  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.("input, select, textarea");
    if (event.key === "Escape" && (!typing || event.target.id === "search")) {
      if (typing) event.target.blur();
      else if (avssl.page.current !== null) location.hash = "";
      return;
    }
    if (typing) return;
    const open = avssl.page.current;
    const id = open ?? focusedCard();
    const inList = event.target.closest?.(".list");
    const move = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1, ArrowDown: avssl.overview.columns(), ArrowUp: -avssl.overview.columns() }[event.key];
    if (move && open !== null && (event.key.startsWith("Arrow") ? /Left|Right/.test(event.key) && !inList : true)) openNeighbour(Math.sign(move));
    else if (move && open === null && (focusedCard() !== null || !event.key.startsWith("Arrow"))) avssl.overview.move(move);
    else if (event.key === "/") {
      if (open !== null) location.hash = "";
      setTimeout(() => byId("search").focus());
    } else if (event.key === "n" && id !== null) {
      if (open === null) {
        location.hash = `#cluster=${id}`;
        addEventListener("hashchange", () => byId("field-name").focus(), { once: true }); // once the page exists
      } else byId("field-name").focus();
    } else if (event.key === "s" && id !== null) names.mark(id, "star");
    else if (event.key === "x" && id !== null) names.mark(id, "reject");
    else if (event.key === "m" && id !== null) avssl.page.merge(id);
    else if (event.key === "u") names.undo();
    else if (event.key === "p" && open !== null) avssl.page.listen();
    else if (event.key === "g" && open === null) avssl.overview.toggle();
    else if (event.key === "?") byId("help").showModal();
    else return;
    event.preventDefault();
  };

  avssl.start = () => {
    const { data } = avssl;
    theme(avssl.recall("avssl:theme"));
    byId("data").textContent = `of ${data.data} · ${data.run}, step ${data.step}`;
    names.start();
    avssl.overview.start();
    names.listen(() => {
      const focused = focusedCard();
      avssl.overview.show();
      avssl.page.refresh(group);
      remember();
      showSaved();
      if (focused !== null) document.querySelector(`.card[data-id="${focused}"]`)?.focus({ preventScroll: true });
    });
    byId("undo").addEventListener("click", () => names.undo());
    byId("download").addEventListener("click", () => names.download());
    byId("import").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", async ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (!file) return;
      try {
        names.load(await file.text());
        avssl.notice("");
      } catch (error) {
        avssl.notice(`Cannot load ${file.name}: ${error.message}`);
      }
    });
    byId("theme").addEventListener("click", () => {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
      const next = now === "dark" ? "light" : "dark";
      theme(next);
      avssl.keep("avssl:theme", next);
    });
    byId("keys").addEventListener("click", () => byId("help").showModal());
    byId("help-list").append(...KEYS.flatMap(([key, text]) => [el("dt", {}, key), el("dd", {}, text)]));
    addEventListener("hashchange", route);
    addEventListener("keydown", keys);
    route();
    showSaved();
  };
})();
