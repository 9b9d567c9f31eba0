"use strict";
// A video: a frame, a loop that plays while it is in view, its audio on demand, its spectrogram.
avssl.tiles = (() => {
  const { el, preview, percent } = avssl;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let sounding = null; // the tile whose audio plays
  let warned = false;

  const picture = (cluster, row, alt) => {
    const image = el("img", { src: preview(cluster, row, "jpg"), alt, loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("error", () => image.replaceWith(el("span", { class: "none" }, "no preview")));
    return image;
  };

  const play = (tile) => {
    if (tile.loop || tile.failed) return tile.loop;
    const { cluster, row } = tile.of;
    const loop = el("video", { src: preview(cluster, row, "mp4"), loop: true, playsinline: true, preload: "auto", tabindex: "-1", "aria-hidden": "true" });
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

  /** The figure of a video of a cluster. */
  const tile = (cluster, row, video) => {
    const { classes } = avssl.data;
    const name = avssl.file(video.path);
    const box = el("div", { class: "box" }, picture(cluster, row, `a frame of ${name}`));
    const made = { of: { cluster, row }, box, loop: null, failed: false };
    made.sound = el("button", { type: "button", class: "sound", "aria-pressed": "false", "aria-label": `audio of ${name}`, title: "audio (p)", onclick: () => listen(made) }, "♪");
    const spectrogram = el("img", { class: "spectrogram", src: preview(cluster, row, "png"), alt: `spectrogram of ${name}`, loading: "lazy" });
    spectrogram.addEventListener("error", () => {
      spectrogram.replaceWith(el("span", { class: "spectrogram none" }, "no audio"));
      made.sound.remove();
    });
    const link = avssl.link(video.url);
    const title = video.start > 0 ? `${video.path}, from ${video.start} s` : video.path;
    const caption = el("figcaption", {}, el(link ? "a" : "span", { class: "name", href: link, target: "_blank", rel: "noopener", title }, name));
    const facts = [video.class >= 0 ? classes[video.class] : null, percent(video.confidence)];
    caption.append(el("span", { class: "soft" }, facts.filter(Boolean).join(" · ")));
    if (video.video >= 0 && video.audio >= 0 && video.video !== video.audio)
      caption.append(el("span", { class: "differ" }, `video → ${video.video}, audio → ${video.audio}`));
    const figure = el("figure", { class: "tile", tabindex: "0", "aria-label": title }, box, made.sound, spectrogram, caption);
    figure.addEventListener("pointerenter", () => play(made));
    figure.addEventListener("pointerleave", () => still.matches && sounding !== made && stop(made));
    figure.tile = made;
    watcher.observe(figure);
    return figure;
  };

  /** Stop the tiles in `root`, before they are removed from the page. */
  const clear = (root) => {
    for (const figure of root.querySelectorAll(".tile")) {
      watcher.unobserve(figure);
      stop(figure.tile);
    }
  };

  return { tile, picture, clear, listen };
})();
