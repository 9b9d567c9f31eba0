"use strict";
// What the user says of clusters: kept in the browser, downloaded as names.json.
avssl.names = (() => {
  const MARKS = ["star", "reject"];
  let said = {}; // cluster → {name, into, mark, note}, as far as given
  let changed = false; // since the last download
  let past = [];
  let members = new Map(); // a cluster → those merged into it
  const listeners = [];

  const of = (id) => said[id] ?? {};
  const target = (id) => of(id).into ?? id;

  const regroup = () => {
    members = new Map();
    for (const [id, { into }] of Object.entries(said)) {
      if (into === undefined) continue;
      if (!members.has(into)) members.set(into, []);
      members.get(into).push(Number(id));
    }
    for (const list of members.values()) list.sort((a, b) => a - b);
  };

  const tell = () => {
    regroup();
    self.stored = avssl.keep(`avssl:${avssl.data.key}`, JSON.stringify({ said, changed }));
    for (const listener of listeners) listener();
  };

  const change = (make) => {
    const before = JSON.stringify(said);
    make();
    for (const [id, value] of Object.entries(said)) if (!Object.keys(value).length) delete said[id];
    if (JSON.stringify(said) === before) return;
    past.push(before);
    past = past.slice(-200);
    changed = true;
    tell();
  };

  const set = (id, key, value) =>
    change(() => {
      const { [key]: _, ...rest } = of(id);
      said[id] = value === null || value === "" ? rest : { ...rest, [key]: value };
    });

  /** Clean what a file or the exporter says; merges lead to their end at once. Throws where it makes no sense. */
  const clean = (clusters) => {
    const found = {};
    for (const [id, value] of Object.entries(clusters)) {
      if (!/^\d+$/.test(id) || Number(id) >= avssl.data.clusters) throw new Error(`there is no cluster ${id}`);
      const kept = {};
      for (const key of ["name", "note"]) if (typeof value[key] === "string" && value[key]) kept[key] = value[key];
      if (MARKS.includes(value.mark)) kept.mark = value.mark;
      if (Number.isInteger(value.into) && value.into !== Number(id)) kept.into = value.into;
      if (Object.keys(kept).length) found[Number(id)] = kept;
    }
    for (const [id, value] of Object.entries(found)) {
      const seen = new Set([Number(id)]);
      while (value.into !== undefined && found[value.into]?.into !== undefined) {
        if (seen.has(value.into)) throw new Error(`cluster ${id} is merged in a circle`);
        seen.add(value.into);
        value.into = found[value.into].into;
      }
      if (value.into === Number(id) || value.into >= avssl.data.clusters) delete value.into;
    }
    return found;
  };

  const self = {
    stored: true,
    of,
    target,
    listen: (listener) => listeners.push(listener),
    get changed() {
      return changed;
    },
    get undoable() {
      return past.length > 0;
    },
    /** The clusters that are one with `id`, itself first. */
    group: (id) => [id, ...(members.get(id) ?? [])],
    title: (id) => of(id).name ?? "",
    name: (id, text) => set(id, "name", text.replace(/\s+/g, " ").trim()),
    note: (id, text) => set(id, "note", text.trim()),
    mark: (id, mark) => set(id, "mark", of(id).mark === mark ? null : mark),
    merge: (id, other) =>
      change(() => {
        const into = target(other);
        if (into === id) return;
        for (const one of self.group(id)) said[one] = { ...of(one), into };
      }),
    split: (id) => set(id, "into", null),
    undo() {
      if (!past.length) return;
      said = JSON.parse(past.pop());
      changed = true;
      tell();
    },
    file() {
      const { run, step, head } = avssl.data;
      const clusters = Object.fromEntries(Object.entries(said).sort((a, b) => a[0] - b[0]));
      return { avssl_names: 1, run, step, head, clusters };
    },
    download() {
      const text = JSON.stringify(self.file(), null, 2) + "\n";
      const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      const link = avssl.el("a", { href: url, download: "names.json" });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
      changed = false;
      tell();
    },
    load(text) {
      let found;
      try {
        found = JSON.parse(text);
      } catch {
        throw new Error("that is not JSON");
      }
      if (found?.avssl_names !== 1 || typeof found.clusters !== "object") throw new Error("that is no names file");
      for (const key of ["step", "head"])
        if (found[key] !== undefined && found[key] !== null && found[key] !== avssl.data[key])
          throw new Error(`those names are of ${key} ${found[key]}, and these clusters of ${avssl.data[key]}`);
      const clusters = clean(found.clusters);
      change(() => (said = clusters));
      changed = false;
      tell();
    },
    start() {
      try {
        const kept = JSON.parse(avssl.recall(`avssl:${avssl.data.key}`) ?? "null");
        said = clean(kept ? kept.said : (avssl.data.names?.clusters ?? {}));
        changed = Boolean(kept?.changed);
      } catch {
        said = {};
      }
      regroup();
    },
  };
  return self;
})();
