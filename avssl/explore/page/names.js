"use strict";
// The user's names, merges, marks and notes: stored in the browser, downloaded as names.json.
// They belong to the chosen head: the clusters of other heads have none, and get none.
avssl.names = (() => {
  const MARKS = ["star", "reject"];
  let entries = {}; // cluster → {name, into, mark, note}, as far as given
  let known = {}; // the entries that the browser holds, as far as this tab knows
  let changed = false; // since the last download
  let past = []; // for undo: what each change replaced, cluster → its earlier entry or null
  let members = new Map(); // cluster → the clusters merged into it
  const listeners = [];

  const of = (id) => (avssl.chosen ? entries[id] ?? {} : {});
  const target = (id) => of(id).into ?? id;
  const key = () => `avssl:${avssl.base.key}`;
  const copy = (value) => JSON.parse(JSON.stringify(value));
  /** The clusters whose entries differ. */
  const differing = (a, b) => [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((id) => JSON.stringify(a[id]) !== JSON.stringify(b[id]));
  const put = (to, id, value) => (value ? (to[id] = value) : delete to[id]);

  const regroup = () => {
    members = new Map();
    for (const [id, { into }] of Object.entries(entries)) {
      if (into === undefined) continue;
      if (!members.has(into)) members.set(into, []);
      members.get(into).push(Number(id));
    }
    for (const list of members.values()) list.sort((a, b) => a - b);
  };

  /** Take over what another tab has stored meanwhile, cluster by cluster. True if something is new. */
  const pull = () => {
    try {
      const kept = JSON.parse(avssl.recall(key()) ?? "null");
      if (!kept) return false;
      const stored = valid(kept.said);
      const theirs = differing(stored, known);
      const ours = new Set(differing(entries, known));
      if (!theirs.length && kept.changed === changed) return false;
      const both = copy(entries);
      for (const id of theirs) if (!ours.has(id)) put(both, id, stored[id]);
      entries = valid(both);
      known = stored;
      changed = ours.size ? changed : Boolean(kept.changed);
      regroup();
      return true;
    } catch {
      return false; // damaged, or two merges that make a circle: this tab's names stay
    }
  };

  const tell = () => {
    for (const listener of listeners) listener();
  };
  const store = () => {
    regroup();
    self.stored = avssl.keep(key(), JSON.stringify({ said: entries, changed }));
    if (self.stored) known = copy(entries);
    tell();
  };

  const change = (make) => {
    if (!avssl.chosen) return;
    const news = pull();
    const before = copy(entries);
    make();
    for (const [id, value] of Object.entries(entries)) if (!Object.keys(value).length) delete entries[id];
    const ids = differing(before, entries);
    if (!ids.length) return void (news && tell());
    past.push(Object.fromEntries(ids.map((id) => [id, before[id] ?? null])));
    past = past.slice(-200);
    changed = true;
    store();
  };

  const set = (id, key, value) =>
    change(() => {
      const { [key]: _, ...rest } = of(id);
      entries[id] = value === null || value === "" ? rest : { ...rest, [key]: value };
    });

  const KINDS = { name: "string", note: "string", mark: "string", into: "number" };
  const quoted = (value) => JSON.stringify(value).slice(0, 60);

  /** The entry of one cluster; the rules are those of `names.py`. Throws an error for a wrong one. */
  const checked = (id, entry) => {
    if (!/^(0|[1-9]\d{0,8})$/.test(id)) throw new Error(`${quoted(id)} is not a cluster number`);
    if (Number(id) >= avssl.base.clusters) throw new Error(`there is no cluster ${id}`);
    if (typeof entry !== "object" || !entry || Array.isArray(entry)) throw new Error(`cluster ${id} must be an object, as {"name": …}`);
    const kept = {};
    for (const [field, value] of Object.entries(entry)) {
      if (value === null || value === "") continue;
      if (!Object.hasOwn(KINDS, field)) throw new Error(`cluster ${id} has ${quoted(field)}, which is not one of ${Object.keys(KINDS).join(", ")}`);
      const wrong = typeof value !== KINDS[field] || (field === "into" && (!Number.isInteger(value) || value < 0));
      if (wrong) throw new Error(`${field} of cluster ${id} is ${quoted(value)}`);
      if (/\p{Surrogate}/u.test(value)) throw new Error(`${field} of cluster ${id} is not valid Unicode`);
      if (field === "mark" && !MARKS.includes(value)) throw new Error(`mark of cluster ${id} is ${quoted(value)}, not one of ${MARKS.join(", ")}`);
      if (field === "into" && value >= avssl.base.clusters) throw new Error(`cluster ${id} is merged into ${value}, but there is no cluster ${value}`);
      const text = field === "name" ? value.replace(/[\x00-\x1f\x7f-\x9f\s]+/g, " ").trim() : value;
      if (text !== "" && !(field === "into" && text === Number(id))) kept[field] = text;
    }
    return kept;
  };

  /** Checked entries, in which each merge leads to its final cluster. Throws an error for a wrong one. */
  const valid = (clusters) => {
    if (typeof clusters !== "object" || !clusters || Array.isArray(clusters)) throw new Error("its clusters must be an object");
    const all = {};
    for (const [id, entry] of Object.entries(clusters)) {
      const kept = checked(id, entry);
      if (Object.keys(kept).length) all[id] = kept;
    }
    for (const [id, value] of Object.entries(all)) {
      const seen = new Set([Number(id)]);
      while (value.into !== undefined && all[value.into]?.into !== undefined) {
        if (seen.has(value.into)) throw new Error(`cluster ${id} is merged in a circle: remove one of the merges`);
        seen.add(value.into);
        value.into = all[value.into].into;
      }
      if (seen.has(value.into)) throw new Error(`cluster ${id} is merged in a circle: remove one of the merges`);
    }
    return all;
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
      pull();
      const before = copy(entries);
      for (const [id, value] of Object.entries(past.pop())) put(before, id, value);
      try {
        entries = valid(before);
      } catch {
        return void tell(); // another tab's merge would make a circle with it
      }
      changed = true;
      store();
    },
    /** How many names and other entries there are, in words. */
    counted() {
      const having = (field) => Object.values(entries).filter((entry) => entry[field] !== undefined).length;
      const others = ["into", "mark", "note"].filter(having).map((field) => avssl.count(having(field), field === "into" ? "merge" : field));
      return [avssl.count(having("name"), "name"), ...others].join(", ");
    },
    /** Is nothing named, merged or marked? */
    get empty() {
      return !Object.keys(entries).length;
    },
    file() {
      const { run, model, step, head } = avssl.base;
      const clusters = Object.fromEntries(Object.entries(entries).sort((a, b) => a[0] - b[0]));
      return { avssl_names: 1, run, model, step, head, clusters };
    },
    download() {
      pull();
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
    /** Replace all names by those of a file. Returns a warning, or "". Throws an error for a wrong file; the names stay. */
    load(text) {
      let file;
      try {
        file = JSON.parse(text);
      } catch {
        throw new Error("it is not JSON");
      }
      if (file?.avssl_names !== 1 || typeof file.clusters !== "object" || !file.clusters) throw new Error("it is not a names file");
      const { base } = avssl;
      const run = typeof file.run === "string" ? file.run : "";
      if (file.model && base.model && file.model !== base.model)
        throw new Error(`its names are of the clusters of another model${run ? `, ${run}` : ""}`);
      for (const key of ["step", "head"]) {
        const named = file[key] ?? null;
        if (named !== null && !Number.isInteger(named)) throw new Error(`its ${key} is ${quoted(named)}, which is not a number`);
        if (named !== null && named !== base[key]) throw new Error(`its names are of ${key} ${named}, but these clusters are of ${key} ${base[key]}`);
      }
      const clusters = valid(file.clusters);
      if (!avssl.chosen) throw new Error(`its names are of head ${base.head}: show that head first`);
      change(() => (entries = clusters));
      changed = false;
      store();
      const last = (path) => path.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1);
      return run && base.run && !file.model && last(run) !== last(base.run) ? `These names were made for the clusters of ${run}: are these the same clusters?` : "";
    },
    start() {
      const read = (get) => {
        try {
          return get();
        } catch {
          return null; // damaged
        }
      };
      const kept = read(() => JSON.parse(avssl.recall(key()) ?? "null"));
      const stored = kept && read(() => valid(kept.said));
      entries = stored ?? read(() => valid(avssl.base.names?.clusters ?? {})) ?? {};
      changed = Boolean(stored && kept.changed);
      known = copy(entries);
      regroup();
      addEventListener("storage", (event) => event.key === key() && pull() && tell());
    },
  };
  return self;
})();
