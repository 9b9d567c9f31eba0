"use strict";
(() => {
  const grid = document.getElementById("grid");
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const shown = document.getElementById("shown");
  const cards = [...grid.children].map((card) => ({
    card,
    classes: card.dataset.classes,
    members: [...card.querySelectorAll("[data-search]")],
  }));

  const order = () => {
    const key = sort.value;
    const value = ({ card }) => (key === "number" ? -card.dataset.number : +card.dataset[key]);
    const number = ({ card }) => +card.dataset.number;
    grid.append(...cards.sort((a, b) => value(b) - value(a) || number(a) - number(b)).map(({ card }) => card));
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = (text) => words.every((word) => text.includes(word));
    let count = 0;
    for (const { card, classes, members } of cards) {
      const whole = found(classes);
      const hits = members.map((member) => found(member.dataset.search));
      const visible = whole || hits.some(Boolean);
      card.hidden = !visible;
      count += visible;
      members.forEach((member, i) => member.classList.toggle("dim", !whole && !hits[i]));
    }
    shown.value = words.length ? `${count} of ${cards.length} clusters` : `${count} clusters`;
    document.getElementById("nothing").hidden = count > 0;
  };

  sort.addEventListener("change", order);
  search.addEventListener("input", filter);
  search.form.addEventListener("submit", (event) => event.preventDefault());
})();
