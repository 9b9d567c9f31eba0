"use strict";
// The map: a disc for each cluster with its cover, a dot for each video, colours by cluster or class; zoom and move.
avssl.map = (() => {
  const { byId, el, names, clusters, percent } = avssl;
  const COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#3aa6a0", "#d4a017", "#e377a2", "#9c755f", "#7a8cf0", "#7fb236", "#c46a3b"];
  const OTHER = "#8b9098";
  const LISTED = 12; // colours in the legend
  const MOST = 40; // largest zoom

  let discs = [];
  let shown = []; // clusters
  let columns = null;
  let by = "cluster"; // what colours mean
  let palette = new Map(); // cluster or class → its colour
  let lit = null; // the cluster or class whose dots alone have colour
  let view = { zoom: 1, x: 0, y: 0 };
  let size = { width: 0, height: 0 };
  let drawing = false;
  let spots = new Map();
  let shows = 0;

  const root = () => byId("map");
  const canvas = el("canvas", { "aria-hidden": "true" });
  const layer = el("div", { class: "spots" });
  const tip = el("p", { class: "tip", hidden: true });
  const zoomer = el("div", { class: "zoom", role: "group", "aria-label": "zoom" });
  const frame = el("div", { class: "frame", tabindex: "0", role: "group", "aria-label": "map of the clusters: + and − zoom, arrows move, 0 shows all" }, canvas, layer, tip);
  const legend = el("div", { class: "legend" });
  const line = el("p", { class: "note" });

  /** Positions of the videos of a merged cluster, the surest first; of a file cut into windows, the surest one. */
  const dotsOf = (id) => {
    const positions = [];
    for (const part of names.group(id)) {
      const start = avssl.position(part, 0);
      for (let at = start; at < start + clusters.one(part).size; at++)
        if (!columns.dots || columns.dots[at >> 3] & (1 << (at & 7))) positions.push(at);
    }
    if (names.group(id).length > 1) positions.sort((a, b) => columns.confidence[b] - columns.confidence[a] || a - b);
    return positions;
  };

  const classOf = (position) => {
    const value = columns.class?.[position];
    return value === undefined || value === columns.noClass ? -1 : value;
  };

  const kind = (disc, position) => (by === "class" ? classOf(position) : disc.cluster.id);

  /** Colours for the clusters, or for the most frequent classes. */
  const paint = () => {
    palette = new Map();
    if (by === "class") {
      const tally = new Map();
      for (const { cluster } of discs) for (const position of cluster.dots) tally.set(classOf(position), (tally.get(classOf(position)) ?? 0) + 1);
      tally.delete(-1);
      [...tally].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, COLOURS.length).forEach(([id], i) => palette.set(id, COLOURS[i]));
    } else
      [...discs].sort((a, b) => b.cluster.dots.length - a.cluster.dots.length).forEach(({ cluster }, i) =>
        palette.set(cluster.id, i < COLOURS.length ? COLOURS[i] : `hsl(${Math.round(i * 137.5) % 360} 45% 52%)`));
    for (const disc of discs) {
      const groups = new Map();
      disc.cluster.dots.forEach((position, i) => {
        const key = kind(disc, position);
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(i);
      });
      disc.groups = groups;
    }
    const called = (id) => (by === "class" ? avssl.data.classes[id] : avssl.label(id));
    const listed = [...palette].slice(0, LISTED);
    const entry = (id, colour, text) =>
      el("button", { type: "button", "aria-pressed": String(lit === id), css: { "--colour": colour }, title: text, onclick: () => light(lit === id ? null : id) }, el("span", {}, text));
    const rest = by === "class" ? avssl.data.classes.length - listed.length : discs.length - listed.length;
    legend.replaceChildren(
      ...(columns.class ? [el("label", {}, "colours ", el("select", { id: "colours", onchange: ({ target }) => colour(target.value) }, el("option", { value: "cluster", selected: by === "cluster" }, "clusters"), el("option", { value: "class", selected: by === "class" }, "classes")))] : []),
      ...listed.map(([id, of]) => entry(id, of, called(id))),
      ...(rest > 0 ? [el("span", { class: "soft" }, `and ${rest} more`)] : []),
    );
  };

  const colour = (to) => {
    by = to;
    lit = null;
    paint();
    draw();
    byId("colours")?.focus();
  };

  const light = (id) => {
    lit = id;
    const pressed = document.activeElement && [...legend.children].indexOf(document.activeElement);
    paint();
    if (pressed > 0) legend.children[pressed]?.focus();
    draw();
  };

  const place = () => {
    const width = frame.clientWidth;
    const height = Math.round(Math.max(320, Math.min(0.62 * width, innerHeight - 190)) + (width < 500 ? 90 : 0));
    size = { width, height };
    frame.style.height = `${height}px`;
    discs = avssl.layout.discs(shown, width, height);
    for (const disc of discs) {
      disc.at = avssl.layout.dots(disc);
      disc.dot = avssl.layout.dot(disc);
    }
    paint();
    draw();
  };

  const draw = () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      if (!root().hidden && size.width) render();
    });
  };

  const render = () => {
    const ratio = devicePixelRatio || 1;
    const { width, height } = size;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const { zoom, x, y } = view;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    const [line_, star] = ["--line", "--other"].map((name) => style.getPropertyValue(name));
    for (const disc of discs) {
      const [cx, cy, r] = [disc.x * zoom + x, disc.y * zoom + y, disc.r * zoom];
      disc.seen = cx + r > 0 && cx - r < width && cy + r > 0 && cy - r < height;
      if (!disc.seen) continue;
      const { mark } = names.of(disc.cluster.id);
      pen.globalAlpha = 1;
      pen.strokeStyle = mark === "star" ? star : line_;
      pen.lineWidth = mark === "star" ? 2.5 : 1;
      pen.beginPath();
      pen.arc(cx, cy, r, 0, 7);
      pen.stroke();
      const dot = disc.dot * zoom;
      for (const [key, members] of disc.groups) {
        const dim = (lit !== null && lit !== key) || mark === "reject";
        pen.fillStyle = dim ? OTHER : palette.get(key) ?? OTHER;
        pen.globalAlpha = dim ? 0.22 : 0.9;
        if (dot < 1.3) {
          const side = Math.max(1, 2 * dot);
          for (const i of members) pen.fillRect(disc.at[2 * i] * zoom + x - side / 2, disc.at[2 * i + 1] * zoom + y - side / 2, side, side);
        } else {
          const radius = Math.min(dot, 9);
          pen.beginPath();
          for (const i of members) {
            const [px, py] = [disc.at[2 * i] * zoom + x, disc.at[2 * i + 1] * zoom + y];
            pen.moveTo(px + radius, py);
            pen.arc(px, py, radius, 0, 7);
          }
          pen.fill();
        }
      }
    }
    cover();
    frame.style.touchAction = zoom > 1 ? "none" : "pan-y";
    zoomer.firstChild.disabled = zoom >= MOST;
    zoomer.children[1].disabled = zoomer.lastChild.disabled = zoom <= 1;
  };

  /** Covers and names, as links above the drawing. */
  const cover = () => {
    const { zoom, x, y } = view;
    const seen = new Set();
    for (const disc of discs) {
      const { id } = disc.cluster;
      const r = disc.r * zoom;
      if (!disc.seen || (r < 13 && discs.length > 60)) continue;
      seen.add(id);
      if (!spots.has(id)) {
        const first = names.group(id).map((part) => [part, clusters.one(part).cover[0]]).find(([, place]) => place !== undefined);
        const picture = first ? avssl.tiles.picture(avssl.row(avssl.position(...first)), "") : el("span", { class: "none" });
        const spot = el("a", { class: "spot", href: avssl.address(id), "aria-label": `${avssl.label(id)}, ${avssl.count(disc.cluster.size)}`, draggable: "false" }, picture, el("span", { class: "called" }, avssl.label(id)));
        spot.addEventListener("focus", () => reveal(disc));
        spots.set(id, spot);
        layer.append(spot);
      }
      const spot = spots.get(id);
      const side = Math.max(8, Math.min(2 * (0.94 * r * avssl.layout.HOLE - disc.dot * zoom), 160));
      spot.lastChild.textContent = names.title(id) || r > 32 ? avssl.label(id) : String(id);
      spot.style.cssText = `left:${disc.x * zoom + x}px;top:${disc.y * zoom + y}px;--side:${side}px;--r:${r}px;--wide:${Math.max(44, 2 * r + 12)}px`;
      spot.classList.toggle("small", side < 13);
      spot.classList.toggle("mute", r < 15 || (discs.length > 60 && r < 24));
    }
    for (const [id, spot] of spots)
      if (!seen.has(id)) {
        spot.remove();
        spots.delete(id);
      }
  };

  /** Move the view so that a disc is in it, for the keyboard. */
  const reveal = (disc) => {
    frame.scrollLeft = frame.scrollTop = 0; // the browser scrolled to the link itself
    if (view.zoom <= 1 || !spots.get(disc.cluster.id)?.matches(":focus-visible")) return;
    move(size.width / 2 - (disc.x * view.zoom + view.x), size.height / 2 - (disc.y * view.zoom + view.y));
  };

  const keep = () => {
    const limit = (value, full) => Math.min(0, Math.max(full * (1 - view.zoom), value));
    view.x = limit(view.x, size.width);
    view.y = limit(view.y, size.height);
  };

  const zoom = (factor, x = size.width / 2, y = size.height / 2) => {
    const to = Math.max(1, Math.min(MOST, view.zoom * factor));
    const by_ = to / view.zoom;
    view = { zoom: to, x: x - by_ * (x - view.x), y: y - by_ * (y - view.y) };
    keep();
    tip.hidden = true;
    draw();
  };

  const move = (dx, dy) => {
    view.x += dx;
    view.y += dy;
    keep();
    tip.hidden = true;
    draw();
  };

  const all = () => {
    view = { zoom: 1, x: 0, y: 0 };
    tip.hidden = true;
    draw();
  };

  /** The disc and the position of the video under a point of the frame, as far as there are any. */
  const under = (px, py) => {
    const [x, y] = [(px - view.x) / view.zoom, (py - view.y) / view.zoom];
    const disc = discs.find((one) => Math.hypot(one.x - x, one.y - y) <= one.r + 3 / view.zoom);
    if (!disc) return [null, null];
    let [best, position] = [Math.max(7, 1.5 * disc.dot * view.zoom) / view.zoom, null];
    for (let i = 0; i < disc.cluster.dots.length; i++) {
      const far = Math.hypot(disc.at[2 * i] - x, disc.at[2 * i + 1] - y);
      if (far < best) [best, position] = [far, disc.cluster.dots[i]];
    }
    return [disc, position];
  };

  let told = null; // what the tip is about
  const say = async (px, py) => {
    const [disc, position] = under(px, py);
    frame.classList.toggle("over", Boolean(disc));
    if (!disc) {
      tip.hidden = true;
      told = null;
      return;
    }
    const about = `${disc.cluster.id}/${position}`;
    if (about !== told) {
      told = about;
      const of = [avssl.label(disc.cluster.id)];
      if (position === null) of.push(avssl.count(disc.cluster.size), clusters.mostly(disc.cluster));
      else {
        const video = await avssl.video(position).catch(() => null);
        if (told !== about) return;
        if (video) of.push(`${avssl.called(video)} ${avssl.time(video)}`.trim(), video.class >= 0 ? avssl.data.classes[video.class] : null, `${percent(video.confidence)} sure`);
      }
      tip.textContent = of.filter(Boolean).join(" · ");
    }
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(size.width - tip.offsetWidth - 4, px + 12))}px`;
    tip.style.top = `${py > size.height - 60 ? py - tip.offsetHeight - 10 : py + 16}px`;
  };

  const click = (px, py) => {
    const [disc, position] = under(px, py);
    if (!disc) return;
    const row = position === null ? null : avssl.row(position);
    if (row !== null && avssl.overview.previewed(row) && avssl.previews.of(row) === "there") avssl.viewer.open([position], position);
    else location.hash = avssl.address(disc.cluster.id);
  };

  const leave = () => {
    tip.hidden = true;
    told = null;
  };

  const listen = () => {
    const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    zoomer.append(button("+", "zoom in (+)", () => zoom(1.6)), button("−", "zoom out (−)", () => zoom(1 / 1.6)), button("⤢", "whole map (0)", all));
    avssl.gestures(frame, { zoom, move, all, hover: say, leave, click, zoomed: () => view.zoom > 1 });
    new ResizeObserver(() => !root().hidden && frame.clientWidth && frame.clientWidth !== size.width && (all(), place())).observe(frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    listen.done = true;
  };

  return {
    /** Show merged clusters on the map. */
    async show(order) {
      if (!listen.done) listen();
      const number = ++shows;
      const value = await avssl.columns().catch((error) => void avssl.notice(error.message));
      if (!value || root().hidden || number !== shows) return; // or something newer is to be shown
      columns = value;
      spots = new Map();
      layer.replaceChildren();
      shown = order.filter((cluster) => cluster.at && cluster.size).map((cluster) => ({ ...cluster, dots: dotsOf(cluster.id) })).sort((a, b) => b.dots.length - a.dots.length || a.id - b.id);
      if (!shown.length) return void root().replaceChildren(el("p", { class: "nothing" }, "None of these clusters is on the map."));
      if (!frame.isConnected) root().replaceChildren(frame, el("div", { class: "under" }, zoomer, legend), line);
      const files = shown.reduce((sum, { dots }) => sum + dots.length, 0);
      root().dataset.dots = files;
      line.textContent = `Each of the ${files.toLocaleString("en")} dots is a video${columns.dots ? " (its surest window)" : ""}; the surest are near the cover. Clusters close together are alike.`;
      place();
    },
    draw,
    get zoom() {
      return view.zoom;
    },
    /** Where a video is on the screen, for tests. */
    spot(position) {
      for (const disc of discs) {
        const i = disc.cluster.dots.indexOf(position);
        const { left, top } = frame.getBoundingClientRect();
        if (i >= 0) return [left + disc.at[2 * i] * view.zoom + view.x, top + disc.at[2 * i + 1] * view.zoom + view.y];
      }
      return null;
    },
  };
})();
