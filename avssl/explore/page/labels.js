"use strict";
// What clusters are called, in texts that follow when the user gives names.
avssl.labels = (() => {
  const { el, names } = avssl;

  const label = (id) => names.title(id) || `cluster ${id}`;
  /** The name of the cluster that videos of cluster `id` belong to after merging, or its number. */
  const short = (id) => names.title(names.target(id)) || String(names.target(id));

  const FORMS = {
    tile: (video, audio) => `video\u00a0→\u00a0${video}, audio\u00a0→\u00a0${audio}`,
    line: (video, audio) => `${video} / ${audio}`,
  };
  const tell = (span) => {
    const { of, form, video, audio } = span.dataset;
    if (of !== undefined) return void (span.textContent = label(Number(of)));
    const [one, other] = [Number(video), Number(audio)];
    span.hidden = names.target(one) === names.target(other);
    span.textContent = FORMS[form](short(one), short(other));
    span.title = FORMS.tile(short(one), short(other));
  };
  const follow = (attributes) => {
    const span = el("span", { "data-called": "", ...attributes });
    tell(span);
    return span;
  };

  return {
    label,
    /** The name of a cluster, as an element. */
    of: (id, element = {}) => follow({ ...element, "data-of": id }),
    /** The clusters of the frames alone and the audio alone, as an element in one of the `FORMS`; null if they are the same. */
    differ: ({ video, audio }, form) =>
      video >= 0 && audio >= 0 && video !== audio ? follow({ class: "differ", "data-form": form, "data-video": video, "data-audio": audio }) : null,
    refresh: () => document.querySelectorAll("[data-called]").forEach(tell),
  };
})();
