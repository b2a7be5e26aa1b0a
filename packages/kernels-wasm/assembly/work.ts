/**
 * Work space. Threads run the same call arguments, each in an instance of its own over the same memory; so where a kernel needs space to work in,
 * it is given the space of all threads and uses its thread's part.
 * @module
 */

let thread: usize = 0;

/** Says, once and first, which thread runs this instance: 0, 1, … */
export function setThread(n: i32): void {
  thread = n;
}

/** Bytes of a thread's part of the space that is called `work`: what gemmBytes needs, the most of all. */
export function workBytes(): usize {
  return 16640;
}

/** This thread's part of a space with parts of so many bytes. */
// @ts-ignore: decorator
@inline
export function own(space: usize, bytes: usize): usize {
  return space + thread * bytes;
}
