"use strict";
// The dialog that merges a cluster into another, and the line afterwards that can undo it.
avssl.merging = (() => {
  const { byId, el, count, percent, names, clusters } = avssl;
  const LISTED = 60;

  /** What a merge would make, in words. */
  const outcome = (id, other) => {
    const both = clusters.joined([...names.group(id), ...names.group(other)].map(clusters.one));
    const words = [`together ${count(both.size)} (${percent(both.size / avssl.data.videos)})`];
    if (both.purity !== null) words.push(clusters.mostly(both));
    else if (both.agreement !== null) words.push(`agree ${percent(both.agreement)}`);
    return words.join(" · ");
  };

  const text = (cluster) => `${cluster.id} ${names.group(cluster.id).map(names.title).join(" ")} ${cluster.classes.slice(0, 3).map(([k]) => avssl.data.classes[k]).join(" ")}`.toLowerCase();

  const choose = (id, other) => {
    byId("merge").close();
    const what = avssl.label(id);
    const result = outcome(id, other);
    names.merge(id, other);
    location.hash = avssl.address(names.target(id));
    avssl.toast(`${what} is merged into ${avssl.label(names.target(id))}: ${result}.`, "Undo", () => {
      names.undo();
      location.hash = avssl.address(id);
    });
  };

  const fill = (id) => {
    const find = byId("merge-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const exact = (c) => find.includes(String(c.id)); // a cluster's own number first: "9" is part of "cluster_019" too
    const near = new Map(clusters.nearest(id, Infinity));
    const others = clusters
      .all()
      .filter((c) => c.id !== names.target(id))
      .filter((c) => find.every((word) => text(c).includes(word)))
      .sort((a, b) => exact(b) - exact(a) || (near.get(b.id) ?? 0) - (near.get(a.id) ?? 0) || a.id - b.id);
    byId("merge-list").replaceChildren(
      ...others.slice(0, LISTED).map((c) =>
        el("li", {}, el("button", { type: "button", onclick: () => choose(id, c.id) },
          avssl.page.cover(c.id),
          el("span", { class: "lines" }, el("span", {}, avssl.label(c.id), " ", el("span", { class: "soft" }, near.has(c.id) ? `${percent(near.get(c.id))} similar` : "")), el("span", { class: "soft" }, outcome(id, c.id))),
        ))),
      ...(others.length > LISTED ? [el("li", { class: "soft" }, `and ${others.length - LISTED} more: search for them`)] : []),
    );
  };

  return {
    async open(id) {
      if (!avssl.chosen) return;
      const cluster = clusters.union(id);
      const search = byId("merge-search");
      const facts = [`${count(cluster.size)} (${percent(cluster.size / avssl.data.videos)} of all)`];
      if (cluster.purity !== null) facts.push(clusters.mostly(cluster));
      if (cluster.agreement !== null) facts.push(`agree ${percent(cluster.agreement)}`);
      byId("merge-title").textContent = `Merge ${avssl.label(id)} into`;
      byId("merge-note").textContent = facts.join(" · ");
      search.value = "";
      search.oninput = () => fill(id);
      search.onkeydown = (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        byId("merge-list").querySelector("button")?.click();
      };
      fill(id);
      byId("merge").showModal();
      search.focus();
      if (await clusters.load()) fill(id);
    },
  };
})();
