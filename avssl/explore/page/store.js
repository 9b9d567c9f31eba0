"use strict";
// Data are scripts that call avssl.put: browsers let a page from the file system load nothing else.
// A position is a place in the order of the head that is shown; a row is a place in the order of the chosen head,
// in which the videos and their previews are stored.
const avssl = (() => {
  const KEPT = 120; // shards kept in memory; others are loaded again when they are needed
  const put = new Map();
  const loading = new Map();
  const shards = new Map();
  const heads = new Map();
  let head = null; // the columns of the head that is shown, once they are loaded

  /** Load a script of data. `again`: it may have changed since. */
  const script = (name, again = false) =>
    new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = `data/${name}.js${again ? `?${Date.now()}` : ""}`;
      tag.onload = () => {
        tag.remove();
        const value = put.get(name);
        put.delete(name);
        value ? resolve(value) : reject(new Error(`data/${name}.js is damaged`));
      };
      tag.onerror = () => {
        tag.remove();
        reject(new Error(`data/${name}.js is missing: was the whole folder copied?`));
      };
      document.head.append(tag);
    });

  const once = (name) => {
    if (!loading.has(name)) loading.set(name, script(name).finally(() => loading.delete(name)));
    return loading.get(name);
  };

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  /** Integers packed by `cluster_data.packed`; -1 where all bits are set. */
  const unpack = ({ bits, data }) => {
    const { buffer } = bytes(data);
    return bits === 16 ? new Uint16Array(buffer) : new Uint32Array(buffer);
  };

  /** The first position of each cluster. */
  const starts = (clusters) => {
    let at = 0;
    return Uint32Array.from(clusters, ({ size }) => (at += size) - size);
  };

  /** The cluster whose videos, from `start` on, hold position `at`. */
  const locate = (start, at) => {
    let [low, high] = [0, start.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (start[middle] <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  };

  const load = async (number) => {
    if (heads.has(number)) return heads.get(number);
    const value = await once(`head_${number}`);
    if (heads.has(number)) return heads.get(number);
    const columns = {
      cluster: value.cluster ?? self.base.cluster,
      class: value.class && unpack(value.class),
      confidence: bytes(value.confidence),
      dots: value.dots && bytes(value.dots),
    };
    for (const name of ["order", "video", "audio"]) if (value[name]) columns[name] = unpack(value[name]);
    columns.none = value.video ? 2 ** value.video.bits - 1 : -1;
    columns.noClass = value.class ? 2 ** value.class.bits - 1 : -1;
    heads.set(number, columns);
    return columns;
  };

  const self = {
    base: null, // of the chosen head
    data: null, // of the head that is shown
    start() {},
    script,
    once,
    bytes,
    put(name, value) {
      if (name !== "overview") return void put.set(name, value);
      self.base = { ...value, start: starts(value.cluster) };
      self.data = self.base;
      self.start();
    },
    /** The value of a script that the page itself loads. */
    taken(name) {
      const value = put.get(name);
      put.delete(name);
      return value;
    },

    /** Is the head that is shown the one chosen without classes, whose clusters have names? */
    get chosen() {
      return self.data === self.base;
    },
    /** Show another head. */
    async choose(number) {
      if (number === self.base.head) {
        head = heads.get(number) ?? null;
        self.data = self.base;
        return;
      }
      const columns = await load(number);
      head = columns;
      self.data = { ...self.base, head: number, cluster: columns.cluster, marginal: null, pairs: false, start: starts(columns.cluster) };
    },
    /** The columns of the head that is shown: class, confidence and dots of the map. */
    async columns() {
      const number = self.data.head;
      const value = await load(number);
      if (number === self.data.head) head = value;
      return value;
    },

    position: (cluster, place) => self.data.start[cluster] + place,
    row: (position) => (self.chosen ? position : head.order[position]),
    /** The cluster of a row in the head that is shown. */
    clusterOf(row) {
      if (self.chosen) return locate(self.base.start, row);
      if (!head.inverse) {
        head.inverse = new Uint32Array(head.order.length);
        head.order.forEach((of, position) => (head.inverse[of] = position));
      }
      return locate(self.data.start, head.inverse[row]);
    },

    ROWS: 2000,
    /** The columns of a part of a cluster's videos; the last `KEPT` parts stay in memory. */
    async shard(cluster, number) {
      const name = `cluster_${String(cluster).padStart(5, "0")}_${number}`;
      const value = shards.get(name) ?? (await once(name));
      shards.delete(name);
      shards.set(name, value);
      while (shards.size > KEPT) shards.delete(shards.keys().next().value);
      return value;
    },
    /** One video, by its position. */
    async video(position) {
      const [row, columns] = [self.row(position), head];
      const cluster = locate(self.base.start, row);
      const place = row - self.base.start[cluster];
      const other = !self.chosen;
      const shard = await self.shard(cluster, Math.floor(place / self.ROWS));
      const video = { position, row, ...Object.fromEntries(Object.keys(shard).map((key) => [key, shard[key][place % self.ROWS]])) };
      if (!other) return video;
      const label = (value) => (value === columns.none ? -1 : value);
      return { ...video, confidence: columns.confidence[position] / 255, video: label(columns.video[position]), audio: label(columns.audio[position]) };
    },
    /** The cluster of a row in the chosen head, and its place there: they name its preview. */
    place(row) {
      const cluster = locate(self.base.start, row);
      return [cluster, row - self.base.start[cluster]];
    },
    preview(row, suffix) {
      const [cluster, place] = self.place(row);
      return `previews/${String(cluster).padStart(5, "0")}/${String(place).padStart(7, "0")}.${suffix}`;
    },

    /** An element. Children that are texts stay texts: no file name can add markup. */
    el(tag, attributes = {}, ...children) {
      const made = document.createElement(tag);
      for (const [key, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
        else if (key === "class") made.className = value;
        else if (key === "css") for (const [name, set] of Object.entries(value)) made.style.setProperty(name, set);
        else made.setAttribute(key, value === true ? "" : value);
      }
      made.append(...children.filter((child) => child !== null && child !== undefined));
      return made;
    },
    svg(tag, attributes = {}, ...children) {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.append(...children);
      return made;
    },
    byId: (id) => document.getElementById(id),
    percent: (share) => (!Number.isFinite(share) ? "–" : `${Math.round(100 * share)}\u00a0%`),
    /** Were videos cut into windows? */
    windows: () => self.base.files < self.base.videos,
    unit: () => (self.windows() ? "window" : "video"),
    count: (n, one = self.unit()) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`,
    file: ({ path }) => path.split("/").at(-1),
    /** The name of a video's file, and the folder that tells it from others of this name. */
    called: (video) => `${self.file(video)}${video.folder ? ` (${video.folder})` : ""}`,
    /** The time of a window in its file, as "0:12–0:14"; empty for a whole file. */
    time(video) {
      if (!(video.start > 0) && !self.windows()) return "";
      const digits = [video.start, video.end ?? 0].every((s) => Math.abs(s - Math.round(s)) < 0.05) ? 0 : 1;
      const clock = (seconds) => {
        const tenths = Math.round(seconds * 10 ** digits) / 10 ** digits;
        const minutes = Math.floor(tenths / 60);
        const rest = (tenths - 60 * minutes).toFixed(digits).padStart(digits ? 4 : 2, "0");
        return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
      };
      return video.end > video.start ? `${clock(video.start)}–${clock(video.end)}` : `from ${clock(video.start)}`;
    },
    link: (url) => (typeof url === "string" && /^(file|https?):/i.test(url) ? url : null),
    /** The address of a cluster, or of all. */
    address(cluster = null, number = self.data.head) {
      const parts = [number === self.base.head ? null : `head=${number}`, cluster === null ? null : `cluster=${cluster}`];
      return `#${parts.filter(Boolean).join("&")}`;
    },
    notice(text) {
      const line = self.byId("notice");
      line.textContent = text;
      line.hidden = !text;
    },
    recall(key) {
      try {
        return localStorage.getItem(key);
      } catch {
        return null; // some browsers do not let a page from the file system store anything
      }
    },
    keep(key, value) {
      try {
        localStorage.setItem(key, value);
        return true;
      } catch {
        return false;
      }
    },
  };
  return self;
})();
