"use strict";
// Data are scripts that call avssl.put: browsers let a page from the file system load nothing else.
const avssl = (() => {
  const KEPT = 40; // shards kept in memory; others are loaded again when they are needed
  const put = new Map();
  const loading = new Map();
  const shards = new Map();

  const script = (name) =>
    new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = `data/${name}.js`;
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

  const self = {
    data: null,
    put(name, value) {
      if (name !== "overview") return void put.set(name, value);
      self.data = value;
      self.start();
    },
    start() {},

    /** The columns of a shard of a cluster's videos; the last `KEPT` shards stay in memory. */
    async shard(cluster, number) {
      const name = `cluster_${String(cluster).padStart(5, "0")}_${number}`;
      if (shards.has(name)) {
        const value = shards.get(name);
        shards.delete(name);
        shards.set(name, value);
        return value;
      }
      if (!loading.has(name)) loading.set(name, script(name).finally(() => loading.delete(name)));
      const value = await loading.get(name);
      shards.set(name, value);
      while (shards.size > KEPT) shards.delete(shards.keys().next().value);
      return value;
    },

    ROWS: 2000,
    /** One video of a cluster, by its position in the cluster. */
    async video(cluster, row) {
      const shard = await self.shard(cluster, Math.floor(row / self.ROWS));
      return self.at(shard, row % self.ROWS);
    },
    at(shard, i) {
      return Object.fromEntries(Object.keys(shard).map((key) => [key, shard[key][i]]));
    },
    preview(cluster, row, suffix) {
      return `previews/${String(cluster).padStart(5, "0")}/${String(row).padStart(7, "0")}.${suffix}`;
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
    percent: (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`),
    /** What a row is: a window if videos were cut into windows, else a video. */
    unit: () => (self.data.files < self.data.videos ? "window" : "video"),
    count: (n, one = self.unit()) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`,
    file: (path) => path.slice(path.lastIndexOf("/") + 1),
    link: (url) => (typeof url === "string" && /^(file|https?):/i.test(url) ? url : null),
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
