"use strict";
// Where the map puts clusters and their videos: pure functions of sizes and places.
avssl.layout = (() => {
  const HOLE = 0.5; // the part of a disc's radius that its cover takes
  const GOLDEN = Math.PI * (3 - Math.sqrt(5));
  const GAP = 36; // room for a name between two discs, px
  const FILLED = 0.26; // the part of the map that discs cover
  const WIDEST = 18; // the radius of a disc of one video

  /** Discs for clusters in a frame: none overlaps another, and they fill it. The area of a disc is by its videos.
   * `clusters` have `at` in 0..1 and `dots`; each disc has x, y and r in the unit of the frame. */
  const discs = (clusters, width, height) => {
    const total = clusters.reduce((sum, { dots }) => sum + dots.length, 0);
    const [least, most] = [Math.min(20, 0.5 * Math.sqrt((width * height) / clusters.length) / 2), 0.3 * Math.min(width, height)];
    const unit = Math.min(WIDEST, Math.sqrt((FILLED * width * height) / (Math.PI * Math.max(1, total))));
    const made = clusters.map((cluster) => ({
      cluster,
      x: cluster.at[0] * width,
      y: cluster.at[1] * height,
      r: Math.max(least, Math.min(most, unit * Math.sqrt(cluster.dots.length))),
    }));
    apart(made, clusters.length > 60 ? 4 : GAP);
    fit(made, width, height);
    return made;
  };

  const apart = (made, gap) => {
    const rounds = Math.max(8, Math.min(150, Math.round(2e7 / (made.length * made.length))));
    for (let round = 0; round < rounds; round++) {
      let moved = false;
      for (let i = 0; i < made.length; i++)
        for (let j = i + 1; j < made.length; j++) {
          const [a, b] = [made[i], made[j]];
          let [dx, dy] = [b.x - a.x, b.y - a.y];
          const need = a.r + b.r + gap;
          if (Math.abs(dx) >= need || Math.abs(dy) >= need) continue;
          let length = Math.hypot(dx, dy);
          if (length >= need) continue;
          if (length < 1e-6) [dx, dy, length] = [Math.cos(i * GOLDEN), Math.sin(i * GOLDEN), 1];
          const push = (0.5 * (need - Math.min(length, need))) / length;
          a.x -= dx * push;
          a.y -= dy * push;
          b.x += dx * push;
          b.y += dy * push;
          moved = true;
        }
      if (!moved) return;
    }
  };

  /** Move and scale the discs to the middle of the frame, names below included. */
  const fit = (made, width, height) => {
    const edge = (by) => made.reduce((most, disc) => Math.max(most, by(disc)), -Infinity);
    const [left, right] = [-edge((d) => d.r - d.x), edge((d) => d.x + d.r)];
    const [top, bottom] = [-edge((d) => d.r - d.y), edge((d) => d.y + d.r + 14)];
    const scale = Math.min((width - 24) / (right - left), (height - 24) / (bottom - top), 1.6);
    for (const disc of made) {
      disc.x = width / 2 + scale * (disc.x - (left + right) / 2);
      disc.y = height / 2 + scale * (disc.y - (top + bottom) / 2);
      disc.r *= scale;
    }
  };

  /** Places of the dots of a disc around its cover, the first near the centre: x and y by turns. */
  const dots = ({ x, y, r, cluster }) => {
    const n = cluster.dots.length;
    const places = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) {
      const far = 0.95 * r * Math.sqrt(HOLE * HOLE + (1 - HOLE * HOLE) * ((i + 0.5) / n));
      places[2 * i] = x + far * Math.cos(i * GOLDEN);
      places[2 * i + 1] = y + far * Math.sin(i * GOLDEN);
    }
    return places;
  };

  /** The radius of a disc's dots. */
  const dot = ({ r, cluster }) => Math.max(0.4, Math.min(7, 0.42 * r * Math.sqrt((Math.PI * (1 - HOLE * HOLE)) / Math.max(1, cluster.dots.length))));

  return { discs, dots, dot, HOLE };
})();
