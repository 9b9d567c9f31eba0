"use strict";
// Which previews are there. While `avssl clusters` makes them, a small script is read again every few seconds.
avssl.previews = (() => {
  const SOON = 2000; // ms between two looks
  const LATE = 120; // s without news after which the command has probably stopped
  const listeners = [];
  let state = { finished: true };
  let made = null; // rows with a preview; null: all but the failed ones
  let failed = new Set();
  let silent = new Set();

  const show = () => {
    const line = avssl.byId("previews");
    line.hidden = state.finished;
    if (state.finished) return;
    const done = `${made.size + failed.size} of ${state.total}`;
    const stopped = Date.now() / 1000 - state.time > LATE;
    line.textContent = stopped
      ? `${done} previews were made before avssl clusters stopped: run it again to make the others.`
      : `Previews are being made: ${done}. They appear here automatically.`;
  };

  const take = (value) => {
    state = value;
    made = value.finished ? null : new Set(value.made);
    failed = new Set(value.failed);
    silent = new Set(value.silent);
    show();
  };

  const look = async () => {
    const before = state.time;
    take(await avssl.script("previews", true).catch(() => state));
    if (state.time !== before) for (const listener of listeners) listener();
    if (!state.finished) setTimeout(look, Date.now() / 1000 - state.time > LATE ? 5 * SOON : SOON);
  };

  return {
    start() {
      take(avssl.taken("previews") ?? state);
      if (!state.finished) setTimeout(look, SOON);
    },
    listen: (listener) => listeners.push(listener),
    /** Is there a preview of a row: "there", "coming" or "none"? */
    of: (row) => (failed.has(row) ? "none" : made === null || made.has(row) ? "there" : "coming"),
    silent: (row) => silent.has(row),
  };
})();
