"use strict";
// A video shown large, with all that is known of it.
avssl.viewer = (() => {
  const { byId, el, percent } = avssl;
  let list = [];
  let at = 0;
  let layer = null; // the heat map over the video

  const fact = (name, value, key = null) => el("div", {}, el("dt", {}, key ? avssl.terms.term(key, name) : name), el("dd", {}, value));

  const show = async () => {
    const dialog = byId("viewer");
    const position = list[at];
    const video = await avssl.video(position).catch((error) => void avssl.notice(error.message));
    if (!video || position !== list[at] || !dialog.open) return;
    const name = avssl.called(video);
    const there = avssl.previews.of(video.row) === "there";
    const screen = there
      ? el("video", { src: avssl.preview(video.row, "mp4"), poster: avssl.preview(video.row, "jpg"), loop: true, controls: true, playsinline: true, autoplay: true, "aria-label": `preview of ${name}` })
      : avssl.tiles.picture(video.row, "");
    const facts = [];
    if (avssl.time(video)) facts.push(fact("time", avssl.time(video)));
    if (video.class >= 0) facts.push(fact("class", avssl.data.classes[video.class]));
    facts.push(fact("sure", percent(video.confidence), "sure"));
    if (video.video >= 0) facts.push(fact("from video alone", avssl.label(avssl.names.target(video.video))));
    if (video.audio >= 0) facts.push(fact("from audio alone", avssl.label(avssl.names.target(video.audio))));
    const holder = el("div", { class: "screen" }, screen);
    layer?.end();
    layer = there ? avssl.overlay.layer(holder, video) : null;
    if (layer && document.fullscreenEnabled) { // the browser's own button shows the video alone, without its heat map
      screen.setAttribute("controlslist", "nofullscreen");
      const toggle = () => (document.fullscreenElement ? document.exitFullscreen() : holder.requestFullscreen()).catch(() => {});
      holder.append(el("button", { type: "button", class: "whole", onclick: toggle }, "Full screen"));
    }
    const button = (text, label, by) => el("button", { type: "button", "aria-label": label, disabled: !list[at + by], onclick: () => step(by) }, text);
    dialog.replaceChildren(
      el("div", { class: "caption" }, avssl.tiles.caption(video, true), button("‹", "previous video", -1), button("›", "next video", 1), el("button", { type: "button", "aria-label": "close", onclick: () => dialog.close() }, "✕")),
      holder,
      avssl.tiles.spectrogram(video, name),
      ...(layer ? [avssl.overlay.bar(layer)] : []),
      el("dl", {}, ...facts),
    );
    layer?.watch(screen);
    dialog.querySelector(".caption button:last-of-type").focus();
    dialog.scrollTop = 0;
  };

  const step = (by) => {
    if (!list[at + by] && list[at + by] !== 0) return;
    at += by;
    show();
  };

  return {
    /** Show the video at `position`; the arrow keys go through `positions`. */
    open(positions, position) {
      avssl.tiles.hush();
      list = positions;
      at = positions.indexOf(position);
      byId("viewer").showModal();
      show();
    },
    start() {
      const dialog = byId("viewer");
      dialog.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (avssl.overlay.key(event.key)) return void event.preventDefault();
        const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
        if (!by || event.target.matches("video, input")) return;
        event.preventDefault();
        step(by);
      });
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
      dialog.addEventListener("close", () => {
        dialog.querySelector("video")?.pause();
        layer?.end();
        layer = null;
        dialog.replaceChildren();
      });
    },
  };
})();
