"use strict";
// A video: a frame, a loop that plays while it is in view, its audio on demand, its spectrogram.
avssl.tiles = (() => {
  const { el, preview, percent, previews } = avssl;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let sounding = null; // the tile whose audio plays
  let warned = false;
  const LONG = 36; // letters of a name that two lines of a tile hold
  const END = 16; // letters at the end of a longer one, which often tell it from the next

  /** A frame of a video, or a word if there is none. */
  const picture = (row, alt) => {
    const state = previews.of(row);
    if (state === "coming") return el("span", { class: "none coming", "data-row": row, "data-alt": alt }, "being made");
    const missing = () => el("span", { class: "none" }, "no preview");
    if (state === "none") return missing();
    const image = el("img", { src: preview(row, "jpg"), alt, loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("error", () => image.replaceWith(missing()));
    return image;
  };

  const play = (tile) => {
    if (tile.loop || tile.failed || previews.of(tile.video.row) !== "there") return tile.loop;
    const loop = el("video", { src: preview(tile.video.row, "mp4"), loop: true, playsinline: true, preload: "auto", tabindex: "-1", "aria-hidden": "true" });
    loop.muted = true;
    loop.addEventListener("playing", () => tile.box.classList.add("plays"));
    loop.addEventListener("error", () => {
      stop(tile);
      tile.failed = true;
      tile.sound?.remove();
      if (!warned && tile.box.querySelector("img")) {
        warned = true;
        avssl.notice("Some previews are missing, or this browser cannot play H.264: the page shows single frames instead.");
      }
    });
    tile.loop = loop;
    tile.box.append(loop);
    tile.layer?.watch(loop);
    loop.play().catch(() => {});
    return loop;
  };

  const stop = (tile) => {
    if (!tile.loop) return;
    if (sounding === tile) hush();
    const { loop } = tile;
    tile.loop = null;
    loop.pause();
    loop.remove();
    loop.removeAttribute("src");
    loop.load(); // frees the decoder
    tile.box.classList.remove("plays");
    tile.layer?.watch(tile.box.querySelector("img"));
  };

  const hush = () => {
    if (!sounding) return;
    if (sounding.loop) sounding.loop.muted = true;
    sounding.sound.setAttribute("aria-pressed", "false");
    sounding = null;
  };

  const listen = (tile) => {
    const again = sounding === tile;
    hush();
    if (again) {
      if (still.matches) stop(tile);
      return;
    }
    const loop = play(tile);
    if (!loop) return;
    sounding = tile;
    loop.muted = false;
    loop.currentTime = 0;
    loop.play().catch(() => {});
    tile.sound.setAttribute("aria-pressed", "true");
  };

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const { tile } = target;
      if (!isIntersecting) stop(tile);
      else if (!still.matches) play(tile);
    }
  });

  /** A video's spectrogram, or a word if there is none. `gone` is called if there is no audio. */
  const spectrogram = (video, name, gone = () => {}) => {
    const none = (text) => el("span", { class: "spectrogram none" }, text);
    if (previews.of(video.row) !== "there") return none("");
    const silent = () => {
      gone();
      return none("no audio");
    };
    if (previews.silent(video.row)) return silent();
    const image = el("img", { class: "spectrogram", src: preview(video.row, "png"), alt: `spectrogram of ${name}`, loading: "lazy" });
    image.addEventListener("error", () => image.replaceWith(silent()));
    return image;
  };

  /** The name of a video and the time of its window, as a link if the file can be opened. */
  const caption = (video, whole = false) => {
    const name = whole ? video.path : avssl.file(video);
    const letters = [...name];
    const parts = whole || letters.length <= LONG ? [name] : [letters.slice(0, -END), letters.slice(-END)].map((part) => el("span", { class: "part" }, part.join("")));
    const link = avssl.link(video.url);
    const time = avssl.time(video);
    return el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener", title: `${video.path} ${time}`.trim() }, ...parts);
  };

  /** The figure of a video. `open` shows it large. */
  const tile = (video, open) => {
    const name = avssl.called(video);
    const time = avssl.time(video);
    const there = previews.of(video.row) === "there";
    const box = el("div", { class: "box", onclick: open }, picture(video.row, `a frame of ${name}`));
    const made = { video, open, box, loop: null, failed: false };
    made.sound = el("button", { type: "button", class: "sound", "aria-pressed": "false", "aria-label": `audio of ${name}`, title: "audio (p)", onclick: () => listen(made) }, "♪");
    made.layer = there ? avssl.overlay.layer(box, video) : null;
    made.layer?.watch(box.querySelector("img"));
    if (!there) made.sound.remove();
    const gone = () => made.sound.remove();
    const facts = [video.folder || null, time ? el("span", { class: "time" }, time) : null, video.class >= 0 ? avssl.data.classes[video.class] : null, `${percent(video.confidence)} sure`];
    const line = el("span", { class: "soft facts-line" });
    facts.filter(Boolean).forEach((fact, i) => line.append(...(i ? [" · "] : []), typeof fact === "string" ? el("span", {}, fact) : fact));
    const text = el("figcaption", {}, caption(video), line, avssl.labels.differ(video, "tile"));
    const figure = el("figure", { class: "tile", tabindex: "0", "aria-label": `${video.path} ${time}`.trim() }, box, there ? made.sound : null);
    figure.append(spectrogram(video, name, gone), text);
    figure.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== figure) return;
      event.preventDefault();
      open();
    });
    figure.addEventListener("pointerenter", () => play(made));
    figure.addEventListener("pointerleave", () => still.matches && sounding !== made && stop(made));
    figure.tile = made;
    watcher.observe(figure);
    return figure;
  };

  const forget = (figure) => {
    watcher.unobserve(figure);
    stop(figure.tile);
    figure.tile.layer?.end();
  };

  return {
    tile,
    picture,
    spectrogram,
    caption,
    listen,
    hush,
    /** Stop the tiles in `root`, before they are removed from the page. */
    clear: (root) => root.querySelectorAll(".tile").forEach(forget),
    /** Put in the previews that were made meanwhile. */
    refresh() {
      for (const waiting of document.querySelectorAll(".coming")) {
        const row = Number(waiting.dataset.row);
        if (previews.of(row) === "coming") continue;
        const figure = waiting.closest(".tile");
        if (figure) {
          forget(figure);
          figure.replaceWith(tile(figure.tile.video, figure.tile.open));
        } else waiting.replaceWith(picture(row, waiting.dataset.alt));
      }
    },
  };
})();
