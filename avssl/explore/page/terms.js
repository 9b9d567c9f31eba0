"use strict";
// What the words of the page mean: tips for a pointer, the keyboard and a finger, and the help panel.
avssl.terms = (() => {
  const { byId, el } = avssl;

  const TERMS = {
    sure: "How sure the model is: its mean probability of this cluster, from video and audio together. 100 % is certain.",
    video: "How sure the model is from the frames alone.",
    audio: "How sure the model is from the audio alone.",
    agree: "How often the frames alone and the audio alone give the same cluster. If it is below 50 %, look closely.",
    purity: "The share of the most frequent class, among the videos that have a class. 100 %: one class only.",
    similarity: "How alike two clusters are to the model: 100 % is the same direction of their mean features, 50 % unrelated. For merged clusters, the mean by size.",
    same: "The clusters of the chosen head that have these videos.",
    where: "How alike a part of the frames is to the audio, for the model. The colours go from the least to the most similar part of each video, so a faint similarity looks as strong as a clear one. Compare it with the audio of another video: if most maps stay the same, the model does not use the audio. One map may stay, because the other video can have the same sound.",
    head: "A model has one or more heads. Each sorts all videos into its own clusters. “Chosen” is the head that avssl picked without using classes; names belong to its clusters.",
    NMI: "Normalised mutual information: how much the clusters say about the classes. 0 % is nothing, 100 % is everything.",
    AMI: "Adjusted mutual information: as NMI, but random clusters get 0.",
    ARI: "Adjusted Rand index: how often clusters and classes agree that two videos belong together. Random clusters get 0.",
    "acc.": "Accuracy, when each cluster stands for one class.",
    entropy: "How mixed the classes of a cluster are, in nats: 0 is one class only.",
    used: "Clusters that have videos.",
    "size entropy": "How even the sizes of the clusters are, in nats: higher is more even.",
    cost: "Transport cost: how far the labels are from what the model predicts. Lower is better.",
    "video = audio": "How often the frames alone and the audio alone give the same cluster.",
    loss: "What training minimises.",
    changed: "Videos whose label changed since the previous labelling pass. The number should fall.",
    between: "NMI of two successive labelling passes: 100 % means that the labels no longer change.",
    evenness: "How even the sizes of the clusters are, in nats: the top of the plot means equal sizes, 0 means all videos in one cluster.",
  };

  const GUIDE = [
    "A cluster is a group of videos that look and sound alike to the model.",
    "No one named the clusters: open one, watch some videos, and give it a name.",
    "The number of a cluster means nothing: another run numbers clusters differently.",
    "A head is one way to sort all videos into clusters. avssl chooses one without using classes, and names belong to that one.",
    "“Sure” is how certain the model is; the surest videos show best what a cluster is about.",
    "The least sure videos show where a cluster ends, so look at them before you name it.",
    "“Agree” is how often video alone and audio alone give the same cluster.",
    "Classes and purity appear only if your videos have classes; the model never saw them.",
    "Merge clusters that mean the same, and reject those that mean nothing.",
    "On the map each dot is one video, clusters close together are alike, and the surest videos are near the centre.",
    "Names stay in this browser until you download names.json and give it to avssl clusters.",
  ];

  const KEYS = [
    ["n", "name this cluster, or the next one without a name"], ["e", "change the name of this cluster"], ["/", "search"],
    ["j k  ↓ ↑  ← →", "next, previous"], ["Enter", "open"], ["Esc", "all clusters"], ["s", "star"], ["x", "reject"],
    ["m", "merge into another cluster"], ["u", "undo"], ["p", "audio on and off"], ["g", "grid or map"],
    ["+ − 0  arrows", "on the map: zoom, whole map, move"], ["?", "this help"],
  ];

  let of = null; // the element whose tip is shown
  const hide = () => {
    byId("tip").hidden = true;
    of?.removeAttribute("aria-describedby");
    of = null;
  };
  const show = (element) => {
    const text = TERMS[element.dataset.term];
    if (!text) return;
    if (of !== element) hide();
    of = element;
    const tip = byId("tip");
    (element.closest("dialog") ?? document.body).append(tip); // a dialog covers all that is outside
    tip.textContent = text;
    tip.hidden = false;
    element.setAttribute("aria-describedby", "tip");
    const at = element.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = tip;
    const above = at.top - height - 6;
    tip.style.left = `${Math.max(6, Math.min(innerWidth - width - 6, at.left))}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
  };

  const term = (event) => event.target.closest?.("[data-term]");

  return {
    /** A word with a tip. `inside` a link it is no button of its own. */
    term: (key, text = key, inside = false) =>
      inside ? el("span", { class: "term", "data-term": key }, text) : el("button", { type: "button", class: "term", "data-term": key }, text),
    has: (key) => key in TERMS,
    hide,
    get shown() {
      return of !== null;
    },
    start() {
      document.addEventListener("pointerover", (event) => {
        if (event.pointerType === "mouse") term(event) ? show(term(event)) : of && !of.matches(":focus-visible") && hide();
      });
      document.addEventListener("focusin", (event) => (event.target.matches("[data-term]") ? show(event.target) : hide()));
      let touched = false; // a tap on a word of a card explains it, and does not open the card
      document.addEventListener("pointerdown", (event) => {
        touched = event.pointerType !== "mouse";
        if (!term(event)) hide();
      });
      document.addEventListener("click", (event) => {
        if (!term(event) || (event.target.closest("a") && !touched)) return;
        event.preventDefault();
        show(term(event));
      }, true);
      addEventListener("scroll", hide, { capture: true, passive: true });
      byId("guide").append(...GUIDE.map((sentence) => el("li", {}, sentence)));
      byId("help-list").append(...[...KEYS.slice(0, -2), ...avssl.overlay.keys(), ...KEYS.slice(-2)].flatMap(([key, text]) => [el("dt", {}, key), el("dd", {}, text)]));
    },
  };
})();
