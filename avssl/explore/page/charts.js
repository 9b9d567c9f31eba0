"use strict";
// Charts: cluster sizes and target sizes, a histogram of classes, the course of the training.
avssl.charts = (() => {
  const { el, svg, count, percent } = avssl;

  /** Bars of the cluster sizes, largest first, and a line of the target sizes. The x unit is a cluster, y is in percent. */
  const sizes = (clusters, marginal, videos) => {
    const order = [...clusters].sort((a, b) => b.size - a.size || a.id - b.id);
    const targets = (marginal ?? []).map((fraction) => fraction * videos);
    const top = Math.max(1, order[0]?.size ?? 0, ...targets.slice(0, 1));
    const height = (n) => (100 * n) / top;
    const chart = svg("svg", {
      viewBox: `0 -2 ${Math.max(1, clusters.length)} 102`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Videos in a cluster, largest first: ${order[0]?.size ?? 0} to ${order.at(-1)?.size ?? 0}`,
    });
    order.forEach((cluster, i) => {
      const bar = svg("rect", { x: i + 0.08, y: 100 - height(cluster.size), width: 0.84, height: height(cluster.size) });
      bar.append(svg("title"));
      bar.firstChild.textContent = `${avssl.label(cluster.id)}: ${count(cluster.size)}`;
      chart.append(svg("a", { href: avssl.address(cluster.id), tabindex: "-1" }, bar));
    });
    if (targets.length) {
      const points = targets.flatMap((n, i) => [`${i},${100 - height(n)}`, `${i + 1},${100 - height(n)}`]);
      chart.append(svg("polyline", { points: points.join(" ") }));
    }
    const keys = el("p", { class: "note" }, el("span", { class: "key" }, `${avssl.unit()}s in a cluster, up to ${count(top)}`));
    if (targets.length) keys.append(" ", el("span", { class: "key marginal" }, "target sizes"));
    return [chart, keys];
  };

  const classes = (cluster) => {
    const { classes: names } = avssl.data;
    const total = cluster.classes.reduce((sum, [, n]) => sum + n, 0) + cluster.other_classes;
    const most = cluster.classes[0]?.[1] ?? 1;
    const row = (name, n) =>
      el("li", {}, el("span", { class: "name", title: name }, name), el("i", { css: { "--share": n / most } }), el("b", {}, percent(n / total)));
    const rows = cluster.classes.slice(0, 12).map(([id, n]) => row(names[id], n));
    const rest = cluster.classes.slice(12).reduce((sum, [, n]) => sum + n, cluster.other_classes);
    if (rest) rows.push(row("others", rest));
    return el("ul", { class: "histogram" }, ...rows);
  };

  const short = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en", { notation: "compact" }) : String(Number(value.toPrecision(3))));

  /** Plot one or more curves over the training steps. The curve `marked` is drawn strong; `range` is the range of the y axis. */
  const plot = (term, title, steps, curves, marked, range = null, form = short) => {
    const [width, height] = [100, 60];
    const known = curves.flat().filter((y) => y !== null);
    if (steps.length < 2 || known.length < 2) return null;
    const [first, last] = [steps[0], steps.at(-1)];
    const [low, high] = range ?? [Math.min(...known), Math.max(...known)];
    const x = (step) => (width * (step - first)) / (last - first);
    const y = (value) => (high > low ? height - (height * (value - low)) / (high - low) : height / 2);
    const path = (values) => values.reduce((d, value, i) => (value === null ? d : `${d}${d && values[i - 1] !== null ? "L" : "M"}${x(steps[i]).toFixed(2)} ${y(value).toFixed(2)}`), "");
    const strong = curves[marked] ?? curves[0];
    const chart = svg("svg", { viewBox: `0 -2 ${width} ${height + 4}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${form(strong.find((v) => v !== null) ?? 0)} at first, ${form(strong.findLast((v) => v !== null) ?? 0)} at last` });
    curves.forEach((values) => values !== strong && chart.append(svg("path", { class: "faint", d: path(values) })));
    chart.append(svg("path", { d: path(strong) }));
    const end = strong.findLast((value) => value !== null);
    const value = el("b", {}, end === undefined ? "–" : form(end));
    chart.addEventListener("pointermove", (event) => {
      const { left, width: wide } = chart.getBoundingClientRect();
      const at = first + ((event.clientX - left) / wide) * (last - first);
      const i = steps.reduce((best, step, j) => (Math.abs(step - at) < Math.abs(steps[best] - at) ? j : best), 0);
      value.textContent = strong[i] === null ? "–" : `${form(strong[i])} at step ${steps[i].toLocaleString("en")}`;
    });
    chart.addEventListener("pointerleave", () => (value.textContent = form(end)));
    return el("figure", { class: "plot" },
      el("figcaption", {}, avssl.terms.term(term, title), value),
      el("div", { class: "frame" }, el("span", { class: "most" }, form(high)), el("span", { class: "least" }, form(low)), chart),
      el("p", { class: "steps" }, el("span", {}, `step ${first.toLocaleString("en")}`), el("span", {}, last.toLocaleString("en"))));
  };

  /** The plots of a run; a faint line for each other head. */
  const course = (curves, head) => {
    const { train, labelling } = curves;
    const most = Math.log(avssl.data.clusters); // of clusters of equal size; the log has shares of it
    const nats = (labelling?.entropy ?? []).map((values) => values.map((share) => (share === null ? null : share * most)));
    return [
      train && plot("loss", "loss", train.step, [train.loss], 0),
      labelling && plot("changed", "labels changed", labelling.step, [labelling.changed], 0, [0, 1], percent),
      labelling?.nmi.length && plot("between", "NMI between labellings", labelling.step, labelling.nmi, head, [0, 1], percent),
      nats.length && plot("evenness", "size entropy, nats", labelling.step, nats, head, [0, most], (value) => value.toFixed(2)),
    ].filter(Boolean);
  };

  return { sizes, classes, course };
})();
