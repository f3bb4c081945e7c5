/** Rate limit for work that other people's changes cause. */

/**
 * Returns a function that runs `work` at once, and then, however often it is called, no more than once in so many
 * milliseconds. The last call is never lost.
 *
 * @param {() => unknown} work
 * @param {number} rest
 */
export function paced(work, rest) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let resting;
  let called = false;
  return function call() {
    if (resting) {
      called = true;
      return;
    }
    resting = setTimeout(() => {
      resting = undefined;
      if (called) {
        called = false;
        call();
      }
    }, rest);
    work();
  };
}
