"use strict";
// Charts: cluster sizes and target sizes, the map of clusters, a histogram of classes.
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
      const link = svg("a", { href: `#cluster=${cluster.id}`, tabindex: "-1" }, bar);
      chart.append(link);
    });
    if (targets.length) {
      const points = targets.flatMap((n, i) => [`${i},${100 - height(n)}`, `${i + 1},${100 - height(n)}`]);
      chart.append(svg("polyline", { points: points.join(" ") }));
    }
    const keys = el("p", { class: "note" }, el("span", { class: "key" }, `${avssl.unit()}s in a cluster, up to ${count(top)}`));
    if (targets.length) keys.append(" ", el("span", { class: "key marginal" }, "target sizes"));
    return [chart, keys];
  };

  /** A map on which similar clusters are near each other; the area of a dot is proportional to the cluster's size. */
  const map = (clusters) => {
    const placed = clusters.filter((cluster) => cluster.at && cluster.size);
    if (!placed.length) return [el("p", { class: "nothing" }, "None of these clusters is on the map.")];
    const largest = Math.max(...placed.map((cluster) => cluster.size));
    const chart = svg("svg", { viewBox: "0 0 1000 620", role: "img", "aria-label": `Map of ${placed.length} clusters` });
    const tip = el("p", { class: "tip", hidden: true });
    const radius = Math.min(44, Math.max(9, 260 / Math.sqrt(placed.length)));
    for (const cluster of [...placed].sort((a, b) => b.size - a.size)) {
      const x = 60 + 880 * cluster.at[0];
      const y = 50 + 520 * cluster.at[1];
      const mark = avssl.names.of(cluster.id).mark;
      const dot = svg("circle", { cx: x, cy: y, r: Math.max(4, radius * Math.sqrt(cluster.size / largest)) });
      dot.classList.toggle("star", mark === "star");
      dot.classList.toggle("reject", mark === "reject");
      dot.style.setProperty("--sure", cluster.confidence.joint ?? 0);
      const link = svg("a", { href: `#cluster=${cluster.id}`, tabindex: "-1" }, dot);
      const guess = cluster.classes[0] ? avssl.data.classes[cluster.classes[0][0]] : String(cluster.id);
      const title = avssl.names.title(cluster.id);
      if (title || placed.length <= 60) {
        const text = svg("text", { x, y: y + 4 });
        text.textContent = title.length > 18 ? `${title.slice(0, 17)}…` : title || guess;
        link.append(text);
      }
      const show = () => {
        const purity = cluster.purity === null ? "" : `, ${percent(cluster.purity)} pure`;
        tip.textContent = `${avssl.label(cluster.id)}: ${count(cluster.size)}${purity}`;
        tip.hidden = false;
        tip.style.left = `${Math.min(80, x / 10)}%`;
        tip.style.top = `${y / 6.2}%`;
      };
      link.addEventListener("pointerenter", show);
      link.addEventListener("pointerleave", () => (tip.hidden = true));
      chart.append(link);
    }
    return [chart, tip];
  };

  const classes = (cluster) => {
    const { classes: names } = avssl.data;
    const total = cluster.classes.reduce((sum, [, n]) => sum + n, 0) + cluster.other_classes;
    const most = cluster.classes[0]?.[1] ?? 1;
    const row = (name, n) =>
      el("li", {}, el("span", { class: "name" }, name), el("i", { css: { "--share": n / most } }), el("b", {}, percent(n / total)));
    const rows = cluster.classes.slice(0, 12).map(([id, n]) => row(names[id], n));
    const rest = cluster.classes.slice(12).reduce((sum, [, n]) => sum + n, cluster.other_classes);
    if (rest) rows.push(row("others", rest));
    return el("ul", { class: "histogram" }, ...rows);
  };

  return { sizes, map, classes };
})();
