// Changes to the list of classes that are made faster than the server applies them.
//
// The changes wait for the server, not the resulting list. So quick changes add up, changes made elsewhere in the meantime
// are kept, and a refused change does not affect the others.

import { post } from "./live.js";

const EMPTY = "at least one class is needed; add another one first";

const namesOf = (entry) => entry.split("|").map((name) => name.trim().replace(/\s+/g, " ")).filter(Boolean);

// What the entry "bike|bicycle" is shown as.
export const labelOf = (entry) => namesOf(entry)[0] ?? "";

// A change has `apply(entries)`, which returns the changed entries.
// Calls `changed()` when `wanted()` may differ, `done(labels)` with the classes in use, `refused(change, error)`.
export function editor({ changed, done, refused }) {
  let known = { version: -1, entries: [] }; // the latest list that the server used
  let waiting = []; // changes without an answer, oldest first
  let single = 0; // of those, how many are sent one by one, because together they were refused
  let busy = false;
  let settled = () => {};

  const after = (changes) => changes.reduce((entries, change) => change.apply(entries), known.entries);
  const quiet = () => new Promise((resolve) => {
    settled = resolve;
    setTimeout(resolve, 1000);
  });

  async function send(entries) {
    if (!entries.length) throw Object.assign(new Error(EMPTY), { status: 400 });
    return post("/classes", { classes: entries, version: known.version });
  }

  // One request at a time: requests that overtake each other would leave the wrong list.
  async function work() {
    while (waiting.length) {
      const batch = waiting.slice(0, single ? 1 : undefined);
      const entries = after(batch);
      const from = known.version;
      let problem = null;
      try {
        const answer = await send(entries);
        if (answer.version > known.version) known = { version: answer.version, entries };
        done(answer.classes);
      } catch (error) {
        if (error.status === 409) { // another list came in between, or is about to: apply the changes to that one
          if (known.version === from) await quiet();
          continue;
        }
        if (error.status === 400 && batch.length > 1) {
          single = batch.length;
          continue;
        }
        problem = error;
      }
      waiting = waiting.slice(batch.length);
      single = Math.max(0, single - 1);
      if (problem) for (const change of batch) refused(change, problem);
      changed();
    }
  }

  return {
    // The classes once the server has applied all changes made here, each { label, names }; as on the server, names that
    // differ in case only are one class.
    wanted() {
      const found = new Map();
      for (const entry of after(waiting)) {
        const label = labelOf(entry);
        if (label && !found.has(label.toLowerCase())) found.set(label.toLowerCase(), { label, names: namesOf(entry) });
      }
      return [...found.values()];
    },
    make(change) {
      waiting = [...waiting, change];
      changed();
      if (busy) return;
      busy = true;
      work().finally(() => (busy = false));
    },
    told(news) {
      if (news.version >= known.version) {
        known = { version: news.version, entries: news.classes.map((entry) => entry.names.join("|")) };
      }
      if (!news.pending) settled();
    },
    // It may be a new server process, whose versions start again.
    reconnected() {
      known.version = -1;
    },
  };
}
