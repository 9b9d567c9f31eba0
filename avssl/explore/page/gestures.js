"use strict";
// Wheel, fingers, mouse and keys on the frame of the map: they zoom and move it, and point at what is in it.
/** Call `zoom(factor, x, y)`, `move(dx, dy)`, `all()`, `hover(x, y)`, `leave()` and `click(x, y)`, in px of the frame. */
avssl.gestures = (frame, { zoom, move, all, hover, leave, click, zoomed }) => {
  const STEP = 60; // px by an arrow key
  const pointers = new Map(); // those that are down, and where
  let dragged = false;

  const point = (event) => {
    const { left, top } = frame.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };

  frame.addEventListener("wheel", (event) => {
    if (event.deltaY > 0 && !zoomed()) return; // the page scrolls on
    event.preventDefault();
    zoom(Math.exp(-Math.max(-80, Math.min(80, event.deltaY)) / 250), ...point(event));
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, point(event));
    dragged = false;
  });
  addEventListener("pointerup", (event) => pointers.delete(event.pointerId));
  addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  frame.addEventListener("pointermove", (event) => {
    const [x, y] = point(event);
    const before = pointers.get(event.pointerId);
    if (!before) return void (event.pointerType === "mouse" && hover(x, y));
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const ratio = Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
      zoom(ratio, (x + other[0]) / 2, (y + other[1]) / 2);
      move((x - before[0]) / 2, (y - before[1]) / 2);
      dragged = true;
    } else if (dragged || Math.hypot(x - before[0], y - before[1]) > 4) {
      dragged = true;
      move(x - before[0], y - before[1]);
    } else return;
    pointers.set(event.pointerId, [x, y]);
  });
  frame.addEventListener("pointerleave", leave);
  frame.addEventListener("dragstart", (event) => event.preventDefault());
  frame.addEventListener("click", (event) => {
    if (dragged && event.detail) return void event.preventDefault(); // not Enter on a link
    if (event.target.closest(".spot")) return;
    click(...point(event));
  });
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), 0: all, ArrowLeft: () => move(STEP, 0), ArrowRight: () => move(-STEP, 0), ArrowUp: () => move(0, STEP), ArrowDown: () => move(0, -STEP) }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
};
