"use strict";
// The user's names, merges, marks and notes: stored in the browser, downloaded as names.json.
// They belong to the chosen head: the clusters of other heads have none, and get none.
avssl.names = (() => {
  const MARKS = ["star", "reject"];
  let entries = {}; // cluster → {name, into, mark, note}, as far as given
  let changed = false; // since the last download
  let past = []; // earlier entries, for undo
  let members = new Map(); // cluster → the clusters merged into it
  const listeners = [];

  const of = (id) => (avssl.chosen ? entries[id] ?? {} : {});
  const target = (id) => of(id).into ?? id;

  const regroup = () => {
    members = new Map();
    for (const [id, { into }] of Object.entries(entries)) {
      if (into === undefined) continue;
      if (!members.has(into)) members.set(into, []);
      members.get(into).push(Number(id));
    }
    for (const list of members.values()) list.sort((a, b) => a - b);
  };

  const store = () => {
    regroup();
    self.stored = avssl.keep(`avssl:${avssl.base.key}`, JSON.stringify({ said: entries, changed }));
    for (const listener of listeners) listener();
  };

  const change = (make) => {
    if (!avssl.chosen) return;
    const before = JSON.stringify(entries);
    make();
    for (const [id, value] of Object.entries(entries)) if (!Object.keys(value).length) delete entries[id];
    if (JSON.stringify(entries) === before) return;
    past.push(before);
    past = past.slice(-200);
    changed = true;
    store();
  };

  const set = (id, key, value) =>
    change(() => {
      const { [key]: _, ...rest } = of(id);
      entries[id] = value === null || value === "" ? rest : { ...rest, [key]: value };
    });

  /** The valid parts of entries from a file; each merge leads to its final cluster. Throws an error for a wrong one. */
  const clean = (clusters) => {
    const valid = {};
    for (const [id, value] of Object.entries(clusters)) {
      if (!/^\d+$/.test(id) || Number(id) >= avssl.base.clusters) throw new Error(`there is no cluster ${id}`);
      const kept = {};
      for (const key of ["name", "note"]) if (typeof value[key] === "string" && value[key]) kept[key] = value[key];
      if (MARKS.includes(value.mark)) kept.mark = value.mark;
      if (Number.isInteger(value.into) && value.into !== Number(id)) kept.into = value.into;
      if (Object.keys(kept).length) valid[Number(id)] = kept;
    }
    for (const [id, value] of Object.entries(valid)) {
      const seen = new Set([Number(id)]);
      while (value.into !== undefined && valid[value.into]?.into !== undefined) {
        if (seen.has(value.into)) throw new Error(`cluster ${id} is merged in a circle`);
        seen.add(value.into);
        value.into = valid[value.into].into;
      }
      if (value.into === Number(id) || value.into >= avssl.base.clusters) delete value.into;
    }
    return valid;
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
    /** Cluster `id`, and the clusters merged into it. */
    group: (id) => [id, ...((avssl.chosen && members.get(id)) || [])],
    /** Is any cluster merged into another? */
    merged: () => avssl.chosen && members.size > 0,
    title: (id) => of(id).name ?? "",
    name: (id, text) => set(id, "name", text.replace(/\s+/g, " ").trim()),
    note: (id, text) => set(id, "note", text.trim()),
    mark: (id, mark) => set(id, "mark", of(id).mark === mark ? null : mark),
    merge: (id, other) =>
      change(() => {
        const into = target(other);
        if (into === id || into === target(id)) return;
        for (const one of self.group(id)) entries[one] = { ...of(one), into };
      }),
    split: (id) => set(id, "into", null),
    undo() {
      if (!past.length || !avssl.chosen) return;
      entries = JSON.parse(past.pop());
      changed = true;
      store();
    },
    file() {
      const { run, model, step, head } = avssl.base;
      const clusters = Object.fromEntries(Object.entries(entries).sort((a, b) => a[0] - b[0]));
      return { avssl_names: 1, run, model, step, head, clusters };
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
      store();
    },
    load(text) {
      let file;
      try {
        file = JSON.parse(text);
      } catch {
        throw new Error("it is not JSON");
      }
      if (file?.avssl_names !== 1 || typeof file.clusters !== "object" || !file.clusters) throw new Error("it is not a names file");
      if (file.model && avssl.base.model && file.model !== avssl.base.model)
        throw new Error(`its names are of the clusters of another model${file.run ? `, ${file.run}` : ""}`);
      for (const key of ["step", "head"])
        if (file[key] !== undefined && file[key] !== null && file[key] !== avssl.base[key])
          throw new Error(`its names are of ${key} ${file[key]}, but these clusters are of ${key} ${avssl.base[key]}`);
      const clusters = clean(file.clusters);
      if (!avssl.chosen) throw new Error(`its names are of head ${avssl.base.head}: show that head first`);
      change(() => (entries = clusters));
      changed = false;
      store();
    },
    start() {
      try {
        const kept = JSON.parse(avssl.recall(`avssl:${avssl.base.key}`) ?? "null");
        entries = clean(kept ? kept.said : (avssl.base.names?.clusters ?? {}));
        changed = Boolean(kept?.changed);
      } catch {
        entries = {};
      }
      regroup();
    },
  };
  return self;
})();
