// The protocol of accounts as a model of its own, small enough to look at every order of events.
//
// An account with an allocation of three has calls of its own and a child with an allocation of two; each call
// reserves an upper bound in the commit of its intent, is made, and settles what it used, or releases. The host may
// die between any two commits: what was reserved then stays spent. The child may end, and returns what it has left.

import { expect, test } from "vitest";

const ALLOCATION = 3;
const CHILD = 2;

interface Call {
  readonly on: "root" | "child";
  readonly bound: number;
  readonly uses: number;
  readonly state: "idle" | "reserved" | "made" | "settled" | "released" | "lost";
}

interface State {
  readonly rootUsed: number;
  readonly childUsed: number;
  readonly child: "none" | "open" | "closed";
  readonly calls: readonly Call[];
}

const CALLS: readonly Call[] = [
  { on: "root", bound: 2, uses: 1, state: "idle" },
  { on: "root", bound: 1, uses: 1, state: "idle" },
  { on: "child", bound: 2, uses: 1, state: "idle" },
  { on: "child", bound: 1, uses: 0, state: "idle" },
];

const withCall = (state: State, at: number, change: Partial<Call>): State => ({
  ...state,
  calls: state.calls.map((call, index) => (index === at ? { ...call, ...change } : call)),
});

/** A bounded add, as the store makes it: refused beyond its bounds. */
function add(state: State, on: Call["on"], delta: number): State | undefined {
  const used = (on === "root" ? state.rootUsed : state.childUsed) + delta;
  if (used < 0 || used > (on === "root" ? ALLOCATION : CHILD)) return undefined;
  return on === "root" ? { ...state, rootUsed: used } : { ...state, childUsed: used };
}

/** Everything that may happen next. */
function next(state: State): readonly State[] {
  const out: (State | undefined)[] = [];
  for (const [at, call] of state.calls.entries()) {
    const isOpen = call.on === "root" || state.child === "open";
    if (call.state === "idle" && isOpen) {
      const reserved = add(state, call.on, call.bound);
      out.push(reserved === undefined ? undefined : withCall(reserved, at, { state: "reserved" }));
    } else if (call.state === "reserved") {
      out.push(withCall(state, at, { state: "made" }));
      // It fails before it has an effect.
      if (isOpen) {
        const released = add(state, call.on, -call.bound);
        out.push(released === undefined ? undefined : withCall(released, at, { state: "released" }));
      }
    } else if (call.state === "made" && isOpen) {
      const settled = add(state, call.on, call.uses - call.bound);
      out.push(settled === undefined ? undefined : withCall(settled, at, { state: "settled" }));
    }
  }
  if (state.child === "none") {
    const moved = add(state, "root", CHILD);
    out.push(moved === undefined ? undefined : { ...moved, child: "open" });
  }
  if (state.child === "open") {
    // It ends, or is killed: calls of it that are under way are lost, and what it has not used returns.
    const calls = state.calls.map((call) =>
      call.on === "child" && isUnderWay(call) ? { ...call, state: "lost" as const } : call,
    );
    const returned = add({ ...state, calls }, "root", -(CHILD - state.childUsed));
    out.push(returned === undefined ? undefined : { ...returned, child: "closed" });
  }
  // The host dies: nobody sees the end of what is under way.
  const dead = state.calls.map((call) => (isUnderWay(call) ? { ...call, state: "lost" as const } : call));
  if (state.calls.some(isUnderWay)) out.push({ ...state, calls: dead });
  return out.filter((found) => found !== undefined);
}

const isUnderWay = (call: Call): boolean => call.state === "reserved" || call.state === "made";

/** What calls have really used, or may still use, on an account. */
function held(state: State, on: Call["on"]): number {
  const amounts = state.calls.map((call) => {
    if (call.on !== on) return 0;
    if (call.state === "settled") return call.uses;
    return call.state === "idle" || call.state === "released" ? 0 : call.bound;
  });
  return amounts.reduce((sum, amount) => sum + amount, 0);
}

test("in every order of events nothing is overshot, minted or lost", () => {
  const start: State = { rootUsed: 0, childUsed: 0, child: "none", calls: CALLS };
  const seen = new Set<string>([JSON.stringify(start)]);
  const left = [start];
  for (let state = left.pop(); state !== undefined; state = left.pop()) {
    const childHeld = held(state, "child");
    const allocated = state.child === "open" ? CHILD : state.child === "closed" ? childHeld : 0;
    // The counters are exactly what is held: settled, reserved and allocated, within the allocation.
    expect(state.childUsed).toBe(childHeld);
    expect(state.rootUsed).toBe(held(state, "root") + allocated);
    expect(state.rootUsed).toBeLessThanOrEqual(ALLOCATION);
    expect(state.childUsed).toBeLessThanOrEqual(CHILD);
    for (const found of next(state)) {
      const key = JSON.stringify(found);
      if (seen.has(key)) continue;
      seen.add(key);
      left.push(found);
    }
  }
  expect(seen.size).toBeGreaterThan(500);
});
