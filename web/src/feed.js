/**
 * The ledger as it grows, read by `fetch`: an `EventSource` cannot carry a token. The stream is closed while nobody
 * sees the page, since a browser has six connections to a host, and continues after the last event that it had.
 */

/** @import { Entry } from "./api.js" */
import { openFeed, pause, Refused } from "./api.js";

/** @typedef {"live" | "paused" | "offline"} FeedState */
/**
 * @typedef {object} Follower
 * @property {(entry: Entry) => void} [onEntry]
 * @property {(state: FeedState) => void} [onState]
 * @property {(position: number) => void} [onHead] The end of the ledger when the feed began, once.
 */

/** Milliseconds before the feed is opened again after the first failure, and at most. */
const REOPEN = { first: 500, most: 10_000 };

/** @type {Set<Follower>} */
const followers = new Set();

/** @type {AbortController | null} */
let opened = null;
/** @type {string | null} */
let lastEvent = null;

/**
 * Calls a follower back from now on, until the signal ends it.
 *
 * @param {Follower} follower
 * @param {AbortSignal} [signal]
 */
export function follow(follower, signal) {
  followers.add(follower);
  signal?.addEventListener("abort", () => followers.delete(follower));
}

/** Follows the ledger whenever the page is seen. */
export function startFeed() {
  document.addEventListener("visibilitychange", toggle);
  toggle();
}

function toggle() {
  if (document.hidden) {
    opened?.abort();
    opened = null;
    tellState("paused");
  } else if (!opened) {
    opened = new AbortController();
    run(opened.signal);
  }
}

/** @param {FeedState} state */
function tellState(state) {
  for (const follower of followers) {
    follower.onState?.(state);
  }
}

/** @param {AbortSignal} signal */
async function run(signal) {
  let wait = REOPEN.first;
  while (!signal.aborted) {
    try {
      const reader = await openFeed(lastEvent, signal);
      wait = REOPEN.first;
      await read(reader);
    } catch (error) {
      if (error instanceof Refused && error.status === 410) {
        // The ledger is another one now, as after a restore: all that is on the page may be wrong.
        location.reload();
        return;
      }
    }
    if (!signal.aborted) {
      tellState("offline");
      await pause(wait, signal).catch(() => undefined);
      wait = Math.min(wait * 2, REOPEN.most);
    }
  }
}

/** @param {ReadableStreamDefaultReader<string>} reader */
async function read(reader) {
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    events.forEach(take);
  }
}

/** @param {string} event */
function take(event) {
  const began = lastEvent === null;
  const lines = event.split("\n");
  const field = (/** @type {string} */ name) =>
    lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  lastEvent = field("id") ?? lastEvent;
  tellState("live");
  const data = field("data");
  const entry = data ? /** @type {Entry} */ (JSON.parse(data)) : null;
  for (const follower of followers) {
    if (began && lastEvent) {
      follower.onHead?.(Number(lastEvent.split("-")[1]) - (entry ? 1 : 0));
    }
    if (entry) {
      follower.onEntry?.(entry);
    }
  }
}
