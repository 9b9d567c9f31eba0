"use strict";
// Where the sound is: heat maps and boxes, drawn over playing previews. Their data are loaded once they are shown.
avssl.overlay = (() => {
  const { el } = avssl;
  const KEPT = 12; // clusters whose overlays stay in memory
  const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // its lightness rises evenly, also for colour-blind users
  const NAME = "avssl:overlay";
  let index = { clusters: [] };
  const state = { on: false, other: false, opacity: 80 };
  const files = new Map(); // cluster → a promise of its overlays
  const layers = new Set(); // those on the page
  const grid = document.createElement("canvas"); // a heat map, one pixel per position

  /** Colour and opacity of each similarity 0..255: the least similar parts are darkened a little. */
  const palette = Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (VIRIDIS.length - 1);
    const low = Math.min(VIRIDIS.length - 2, Math.floor(at));
    return [...VIRIDIS[low].map((from, c) => Math.round(from + (at - low) * (VIRIDIS[low + 1][c] - from))), Math.round(255 * (0.45 + 0.4 * (level / 255)))];
  });

  const recall = () => {
    try {
      const { on, other, opacity } = JSON.parse(sessionStorage.getItem(NAME) ?? "{}");
      Object.assign(state, { on: on === true, other: other === true && index.compared === true, opacity: opacity >= 10 && opacity <= 100 ? opacity : state.opacity });
    } catch {
      // the page forgets it with this tab
    }
  };
  const change = (values) => {
    Object.assign(state, values);
    try {
      sessionStorage.setItem(NAME, JSON.stringify(state));
    } catch {
      // as above
    }
    for (const bar of document.querySelectorAll(".where")) bar.update();
    for (const layer of layers) layer.update();
  };

  /** Unpack the maps of an overlay, once. False if they are damaged. */
  const unpacked = (found) => {
    try {
      const bytes = found.times.length * found.size[0] * found.size[1];
      for (const kind of ["maps", "other"]) {
        if (typeof found[kind] === "string") found[kind] = avssl.bytes(found[kind]);
        if (found[kind] && found[kind].length !== bytes) return false;
      }
      return bytes > 0 && Boolean(found.maps);
    } catch {
      return false;
    }
  };

  /** The overlay of a video; null without one, or if it belongs to another video or stretch. */
  const entry = async (video) => {
    const [cluster, place] = avssl.place(video.row);
    if (!index.clusters.includes(cluster)) return null;
    const name = `locate_${String(cluster).padStart(5, "0")}`;
    const file = files.get(cluster) ?? avssl.once(name).catch((error) => (avssl.notice(error.message), { previews: {} }));
    files.delete(cluster);
    files.set(cluster, file);
    while (files.size > KEPT) files.delete(files.keys().next().value);
    const found = (await file).previews[place];
    const middle = video.end > video.start ? (video.start + video.end) / 2 : null;
    if (!found || found.path !== video.path || (middle !== null && Math.abs(found.middle - middle) > 0.01)) return null;
    return unpacked(found) ? found : null;
  };

  /** The two moments around a time, and how far it is from the first to the second. */
  const moment = ({ times }, time) => {
    const after = times.findIndex((one) => one > time);
    if (after < 1) return after === 0 ? [0, 0, 0] : [times.length - 1, times.length - 1, 0];
    return [after - 1, after, (time - times[after - 1]) / (times[after] - times[after - 1])];
  };

  /** Draw the heat map between two moments into the rectangle `x, y, width, height`; the browser makes it smooth. */
  const heat = (pen, maps, [height, width], [a, b, part], rectangle) => {
    if (grid.width !== width || grid.height !== height) [grid.width, grid.height] = [width, height];
    const size = width * height;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < size; i++) pixels.data.set(palette[Math.round(maps[a * size + i] * (1 - part) + maps[b * size + i] * part)], 4 * i);
    grid.getContext("2d").putImageData(pixels, 0, 0);
    pen.globalAlpha = state.opacity / 100;
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(grid, ...rectangle);
    pen.globalAlpha = 1;
  };

  const boxAt = ({ boxes }, [a, b, part]) => {
    if (boxes[a] && boxes[b]) return boxes[a].map((edge, i) => edge + part * (boxes[b][i] - edge));
    return boxes[part < 0.5 ? a : b];
  };

  /** Draw a box and its title; dashed: the box of the video's own audio, over the map of another. */
  const frame = (pen, [x, y, width, height], dashed, title, [left, right, bottom], unit) => {
    pen.setLineDash(dashed ? [5 * unit, 4 * unit] : []);
    for (const [colour, line] of [["#000b", 4], ["#fff", 1.75]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line * unit;
      pen.strokeRect(x, y, width, height);
    }
    if (!title || right - left < 90 * unit) return;
    const font = (right - left < 260 * unit ? 10 : 13) * unit;
    pen.font = `600 ${font}px system-ui, sans-serif`;
    let text = title;
    while (text.length > 1 && pen.measureText(text).width > right - left - 8 * unit) text = `${text.slice(0, -2)}…`;
    const long = pen.measureText(text).width + 8 * unit;
    const high = font * 1.4;
    const from = Math.max(left, Math.min(x, right - long));
    const below = Math.max(y, Math.min(y + height, bottom - high)); // the button for the audio is above
    pen.fillStyle = "#000c";
    pen.fillRect(from, below, long, high);
    pen.fillStyle = "#fff";
    pen.textBaseline = "middle";
    pen.fillText(text, from + 4 * unit, below + high / 2);
  };

  /** The heat map over a video or its picture in `holder`; null without overlays. Call `end` before it is removed. */
  const layer = (holder, video) => {
    if (!index.clusters.length) return null;
    let [canvas, media, found, cancel, time, ended] = [null, null, null, () => {}, 0, false];
    const resized = new ResizeObserver(() => draw());

    const draw = () => {
      if (!canvas || !found || !media) return;
      const unit = Math.max(1, devicePixelRatio);
      const [width, height] = [holder.clientWidth, holder.clientHeight].map((side) => Math.round(side * unit));
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, width, height);
      const wide = media.videoWidth || media.naturalWidth;
      const tall = media.videoHeight || media.naturalHeight;
      if (!wide || !tall) return; // it is not loaded yet
      const scale = unit * Math.min(media.clientWidth / wide, media.clientHeight / tall); // object-fit: contain
      const left = unit * (media.offsetLeft + media.clientWidth / 2) - (scale * wide) / 2;
      const top = unit * (media.offsetTop + media.clientHeight / 2) - (scale * tall) / 2;
      const inside = ([x0, y0, x1, y1]) => [left + scale * wide * x0, top + scale * tall * y0, scale * wide * (x1 - x0), scale * tall * (y1 - y0)];
      const at = moment(found, time);
      const maps = state.other ? found.other : found.maps;
      if (maps) heat(pen, maps, found.size, at, inside(found.extent));
      const box = boxAt(found, at);
      const title = found.cluster >= 0 && avssl.chosen ? avssl.label(avssl.names.target(found.cluster)) : "";
      if (box) frame(pen, inside(box), state.other, title, [left, left + scale * wide, top + scale * tall], unit);
    };
    const drawAt = (seconds) => {
      time = seconds;
      draw();
    };

    /** Draw each new frame of the video; a paused one has them when it is moved. */
    const follow = () => {
      cancel();
      cancel = () => {};
      if (!canvas || !found || !media) return;
      if (!(media instanceof HTMLVideoElement)) return drawAt(found.still);
      const video = media;
      let handle = 0;
      if (video.requestVideoFrameCallback) {
        const next = () => (handle = video.requestVideoFrameCallback((_, { mediaTime }) => (drawAt(mediaTime), next())));
        cancel = () => video.cancelVideoFrameCallback(handle);
        next();
      } else {
        const next = () => {
          if (video.currentTime !== time) drawAt(video.currentTime);
          handle = requestAnimationFrame(next);
        };
        cancel = () => cancelAnimationFrame(handle);
        next();
      }
      drawAt(video.currentTime);
    };
    const settled = ({ target }) => target === media && (media instanceof HTMLVideoElement ? drawAt(media.currentTime) : draw());

    const clear = () => {
      cancel();
      resized.disconnect();
      canvas?.remove();
      holder.querySelector(".unmapped")?.remove();
      canvas = null;
    };
    const mark = (text) => {
      const old = holder.querySelector(".unmapped");
      if (!text) return void old?.remove();
      if (old) old.textContent = text;
      else holder.append(el("span", { class: "unmapped" }, text));
    };
    const elsewhere = () => index.split && avssl.base.splits[video.split] !== index.split;
    const missing = () => {
      if (!found) return avssl.previews.silent(video.row) ? "no audio" : elsewhere() ? "not located" : "no map";
      return state.other && !found.other ? "no other audio" : "";
    };

    const self = {
      listener: () => {},
      /** The element to draw over. */
      watch(element) {
        for (const name of ["loadeddata", "seeked", "load"]) {
          media?.removeEventListener(name, settled);
          element?.addEventListener(name, settled);
        }
        media = element;
        follow();
      },
      async update() {
        if (!state.on) {
          clear();
          return self.listener(null);
        }
        if (!found) found = await entry(video);
        if (ended || !state.on) return;
        mark(missing());
        self.listener(found);
        if (!found) return;
        if (!canvas) {
          canvas = el("canvas", { class: "overlay", "aria-hidden": "true" });
          holder.append(canvas);
          resized.observe(holder);
          follow();
        } else draw();
      },
      end() {
        ended = true;
        self.watch(null);
        clear();
        layers.delete(self);
      },
    };
    layers.add(self);
    if (state.on) self.update();
    return self;
  };

  /** How many previews have a map, and why not all; empty if all have one. */
  const howMany = () => {
    const { base, previews } = avssl;
    const rows = base.cluster.flatMap(({ id, shown }) => Object.values(shown).flat().map((place) => base.start[id] + place));
    const there = rows.filter((row) => previews.of(row) === "there").length;
    if (!(index.maps < there)) return ""; // nor for an index of an earlier version, without the number
    const why = index.split ? `: only the split ${index.split} is located` : "";
    return `${index.maps.toLocaleString("en")} of ${avssl.count(there, "preview")} have a heat map${why}.`;
  };

  /** The controls, as an element; null without overlays. Those of the viewer say what the overlay of `layer` is. */
  const bar = (layer = null) => {
    if (!index.clusters.length) return null;
    const press = (text, title, key) => el("button", { type: "button", title, "data-key": key, onclick: () => change({ [key]: !state[key] }) }, text);
    const show = press("Where is the sound?", "heat maps over the videos (w)", "on");
    const other = press("Audio of another video", "the same video with the audio of another one (o); the dashed box is that of its own audio", "other");
    const slider = el("input", { type: "range", min: 10, max: 100, step: 10, "aria-label": "opacity of the heat maps", oninput: ({ target }) => change({ opacity: Number(target.value) }) });
    const colours = palette.filter((_, level) => level % 15 === 0).map(([r, g, b, a]) => `rgb(${r} ${g} ${b} / ${a / 255})`);
    const legend = el("span", { class: "shades" }, "low", el("i", { css: { background: `linear-gradient(to right, ${colours}), var(--tile)` } }), "high ", avssl.terms.term("where", "similarity"));
    const about = el("p", { role: "status" });
    const note = el("p", { class: "note" }, ...[howMany(), index.note].filter(Boolean).map((text) => el("span", {}, text)));
    const settings = [index.compared ? other : null, el("label", {}, "opacity", slider), legend, note, layer ? about : null].filter(Boolean);
    const made = el("div", { class: "where", role: "group", "aria-label": "heat maps of the sound" }, show, ...settings);
    made.update = () => {
      for (const button of [show, other]) button.setAttribute("aria-pressed", String(state[button.dataset.key]));
      for (const one of settings) one.hidden = !state.on || (one === note && !note.childElementCount);
      slider.value = state.opacity;
      slider.setAttribute("aria-valuetext", `${state.opacity} %`);
    };
    if (layer) {
      layer.listener = (found) => {
        const most = Number.isFinite(found?.score) ? `The largest similarity is ${found.score.toFixed(2)} (of −1 to 1).` : "";
        about.textContent = found ? most : "There is no heat map of this video.";
      };
    }
    made.update();
    return made;
  };

  return {
    layer,
    bar,
    /** Act on a key. True if it is one of the overlay. */
    key(key) {
      if (!index.clusters.length || !(key === "w" || (key === "o" && state.on && index.compared))) return false;
      change(key === "w" ? { on: !state.on } : { other: !state.other });
      return true;
    },
    keys: () => (index.clusters.length ? [["w", "where is the sound?"], ["o", "with the audio of another video"]] : []),
    start() {
      const stored = avssl.taken("locate");
      if (stored?.key === avssl.base.key) index = stored;
      recall();
      avssl.names.listen(() => layers.forEach((layer) => layer.update()));
    },
  };
})();
