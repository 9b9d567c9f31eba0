"use strict";
// The clusters of the head that is shown, as they are after merging: all numbers are of merged clusters.
avssl.clusters = (() => {
  const { names } = avssl;
  const UNKNOWN = 255; // similarity is stored in 250 steps
  let pairs = null; // similarity of each pair of clusters, once a merge needs it

  const one = (id) => avssl.data.cluster[id];

  /** A cluster together with the clusters merged into it: counts are summed, means are weighted by size. */
  const joined = (parts) => {
    if (parts.length === 1) return parts[0];
    const size = parts.reduce((sum, part) => sum + part.size, 0);
    const mean = (get) => {
      const defined = parts.filter((part) => get(part) !== null && part.size);
      const weight = defined.reduce((sum, part) => sum + part.size, 0);
      return weight ? defined.reduce((sum, part) => sum + part.size * get(part), 0) / weight : null;
    };
    const tally = new Map();
    for (const part of parts) for (const [id, n] of part.classes) tally.set(id, (tally.get(id) ?? 0) + n);
    const classes = [...tally].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const other = parts.reduce((sum, part) => sum + part.other_classes, 0);
    const total = classes.reduce((sum, [, n]) => sum + n, other);
    const placed = parts.filter((part) => part.at && part.size);
    return {
      ...parts[0],
      size,
      classes,
      other_classes: other,
      purity: total ? classes[0][1] / total : null,
      agreement: mean((part) => part.agreement),
      confidence: { joint: mean((p) => p.confidence.joint), video: mean((p) => p.confidence.video), audio: mean((p) => p.confidence.audio) },
      at: placed.length ? [0, 1].map((axis) => placed.reduce((sum, p) => sum + p.size * p.at[axis], 0) / placed.reduce((sum, p) => sum + p.size, 0)) : null,
      sound: null,
    };
  };

  const union = (id) => joined(names.group(id).map(one));

  /** Similarity of two merged clusters: the mean over their parts, weighted by size; null if it is unknown. */
  const similarity = (a, b) => {
    let [sum, weight] = [0, 0];
    for (const i of names.group(a))
      for (const j of names.group(b)) {
        const stored = pairs?.[i * avssl.data.clusters + j] ?? UNKNOWN;
        const near = one(i).nearest.find(([id]) => id === j) ?? one(j).nearest.find(([id]) => id === i);
        const alike = near ? near[1] : stored === UNKNOWN ? null : stored / 250;
        if (alike === null) continue;
        const share = one(i).size * one(j).size;
        sum += share * alike;
        weight += share;
      }
    return weight ? sum / weight : null;
  };

  const self = {
    one,
    joined,
    union,
    similarity,
    /** All clusters that are merged into no other, with those merged into them. */
    all: () => avssl.data.cluster.filter(({ id }) => names.target(id) === id).map(({ id }) => union(id)),
    /** The nearest merged clusters and their similarity, the most similar first. */
    nearest(id, most = 8) {
      if (!names.merged() && !(pairs && avssl.chosen && most > one(id).nearest.length)) return one(id).nearest.slice(0, most);
      const others = self.all().filter((other) => other.id !== names.target(id) && other.size);
      return others
        .map((other) => [other.id, similarity(id, other.id)])
        .filter(([, alike]) => alike !== null)
        .sort((a, b) => b[1] - a[1] || a[0] - b[0])
        .slice(0, most);
    },
    /** Load the similarities that merged clusters need. True if they are new. */
    async load() {
      if (pairs || !avssl.data.pairs || !avssl.chosen) return false;
      const value = await avssl.once("similar").catch((error) => void avssl.notice(error.message));
      if (pairs || !value) return false;
      pairs = avssl.bytes(value.data);
      return true;
    },
    /** Merged clusters to be named: those with videos that are not rejected. */
    nameable: () => self.all().filter(({ id, size }) => size && names.of(id).mark !== "reject"),
    /** The most frequent class of a cluster and its share, as "57 % dog"; null without classes. */
    mostly: (cluster) => (cluster.purity === null ? null : `${avssl.percent(cluster.purity)} ${avssl.data.classes[cluster.classes[0][0]]}`),
  };
  return self;
})();
