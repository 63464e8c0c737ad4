// Whose turn it is where many wait for the same, and calls that wait for rates.

import { FairOrder, type RateLimit, RateTable, type Share, type Taking } from "@ergos/kernel";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const share = (key: string, weight = 100): Share => ({ key, weight });

/** Serves `turns` times from lines that never empty: who was served how often. */
function servedOf(paths: readonly (readonly Share[])[], turns: number, cost = (_of: number): number => 1): number[] {
  const order = new FairOrder();
  const waiting = paths.map((path) => order.enter(path));
  const served = paths.map(() => 0);
  for (let turn = 0; turn < turns; turn++) {
    let first = 0;
    for (const [at, one] of waiting.entries()) {
      const best = waiting[first];
      if (best !== undefined && order.compare(one, best) < 0) first = at;
    }
    const [chosen, path] = [waiting[first], paths[first]];
    if (chosen === undefined || path === undefined) throw new TypeError("somebody waits");
    // Who is served asks again while it still has its turn.
    waiting[first] = order.enter(path);
    order.served(chosen, cost(first));
    served[first] = (served[first] ?? 0) + 1;
  }
  return served;
}

describe("the order of those that wait", () => {
  test("goes by weights, at each level of the tree for itself", () => {
    expect(servedOf([[share("a", 300)], [share("b")]], 400)).toEqual([300, 100]);
    const lab = share("lab", 200);
    expect(servedOf([[lab, share("lab/a", 300)], [lab, share("lab/b")], [share("other", 200)]], 800)).toEqual([
      300, 100, 400,
    ]);
  });

  test("counts what turns cost, and who is alone has all of them", () => {
    expect(servedOf([[share("dear")], [share("cheap")]], 110, (of) => (of === 0 ? 10 : 1))).toEqual([10, 100]);
    expect(servedOf([[share("a", 1)]], 7)).toEqual([7]);
  });

  test("begins for a newcomer where the others are: it neither waits for all of theirs, nor has all of the next", () => {
    const order = new FairOrder();
    let old = order.enter([share("old")]);
    for (let turn = 0; turn < 1000; turn++) {
      const next = order.enter([share("old")]);
      order.served(old, 1);
      old = next;
    }
    const [first, second] = [order.enter([share("new")]), order.enter([share("new")])];
    order.served(old, 1);
    const next = order.enter([share("old")]);
    expect(order.compare(first, next)).toBeLessThan(0);
    order.served(first, 1);
    const third = order.enter([share("new")]);
    order.served(second, 1);
    expect(order.compare(next, third)).toBeLessThan(0);
  });

  test("has everybody served again though newcomers come with every turn, and remembers none of them", () => {
    const order = new FairOrder();
    order.served(order.enter([share("parent"), share("old")]), 1);
    const old = order.enter([share("parent"), share("old")]);
    let turns = 0;
    for (; turns < 1000; turns++) {
      const fresh = order.enter([share("parent"), share(`new ${turns}`)]);
      if (order.compare(old, fresh) < 0) break;
      order.served(fresh, 1);
    }
    expect(turns).toBeLessThan(5);
  });

  test("within one share goes by asking; nothing is remembered of who has left", () => {
    const order = new FairOrder();
    const turns = [0, 1, 2].map(() => order.enter([share("a")]));
    expect(turns.toSorted((one, two) => order.compare(one, two))).toEqual(turns);
    for (const turn of turns) order.leave(turn);
    const [a, b] = [order.enter([share("a")]), order.enter([share("b")])];
    expect(order.compare(a, b)).toBeLessThan(0);
  });

  test("whatever the weights and costs, of two that always wait none is ahead by more than one turn of each", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ weight: fc.integer({ min: 1, max: 1000 }), cost: fc.integer({ min: 1, max: 500 }) }), {
          minLength: 2,
          maxLength: 6,
        }),
        fc.integer({ min: 1, max: 400 }),
        (shares, turns) => {
          const served = servedOf(
            shares.map(({ weight }, at) => [share(String(at), weight)]),
            turns,
            (of) => shares[of]?.cost ?? 1,
          );
          const given = shares.map(({ weight, cost }, at) => ((served[at] ?? 0) * cost) / weight);
          const most = Math.max(...shares.map(({ weight, cost }) => cost / weight));
          expect(Math.max(...given) - Math.min(...given)).toBeLessThanOrEqual(most + 1e-9);
        },
      ),
    );
  });
});

/** A clock that is moved by hand. */
class Hand {
  #now = 0;
  #timers: { readonly at: number; readonly task: () => void }[] = [];
  readonly clock = { monotonic: (): number => this.#now, now: (): number => this.#now };

  setTimer(delayMs: number, task: () => void): { cancel(): void } {
    const timer = { at: this.#now + delayMs, task };
    this.#timers.push(timer);
    return { cancel: () => void (this.#timers = this.#timers.filter((one) => one !== timer)) };
  }

  defer(task: () => void): void {
    queueMicrotask(task);
  }

  get isIdle(): boolean {
    return this.#timers.length === 0;
  }

  async to(at: number): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const [next] = this.#timers.filter((timer) => timer.at <= at).toSorted((one, two) => one.at - two.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.at;
      next.task();
    }
    this.#now = at;
  }
}

describe("calls that wait for rates", () => {
  const rate: RateLimit = { resource: "tokens", per: "model", max: 10, windowMs: 1000 };
  const taking = (amount: number, key = "m", of = rate): Taking => ({ rate: of, key, amount });
  const setUp = () => {
    const hand = new Hand();
    const rates = new RateTable(hand);
    const went: string[] = [];
    const wait = (name: string, needs: readonly Taking[], by = name, signal = new AbortController().signal) =>
      rates.wait(needs, [share(by)], signal).then(
        () => void went.push(name),
        () => void went.push(`not ${name}`),
      );
    return { hand, rates, went, wait };
  };

  test("have their turn by shares: who asks a thousand times does not keep others from theirs", async () => {
    const { hand, rates, went, wait } = setUp();
    expect(rates.take([taking(10)])).toHaveProperty("over");
    for (let at = 0; at < 1000; at++) void wait("many", [taking(5)]);
    void wait("few", [taking(5)]);
    await hand.to(1100);
    expect(went).toEqual(["many", "few"]);
  });

  test("are not passed by those who need less, nor by those who come later", async () => {
    const { hand, rates, went, wait } = setUp();
    rates.take([taking(5)]);
    void wait("large", [taking(10)]);
    void wait("small", [taking(1)]);
    await hand.to(500);
    expect(went).toEqual([]);
    expect(rates.take([taking(1)])).toMatchObject({ rate, waitMs: 0 });
    await hand.to(5000);
    expect(went).toEqual(["large", "small"]);
    expect(hand.isIdle).toBe(true);
    expect(rates.take([taking(1)])).toHaveProperty("over");
  });

  test("do not wait for meters that others need", async () => {
    const { hand, rates, went, wait } = setUp();
    rates.take([taking(10, "m")]);
    void wait("both", [taking(1, "m"), taking(1, "n")]);
    void wait("other", [taking(1, "n")]);
    await hand.to(10);
    expect(went).toEqual(["other"]);
    await hand.to(3000);
    expect(went).toEqual(["other", "both"]);
  });

  test("that are given up leave their turn to the next, and one that would not wait takes what there is", async () => {
    const { hand, rates, went, wait } = setUp();
    rates.take([taking(5)]);
    const stop = new AbortController();
    void wait("large", [taking(10)], "large", stop.signal);
    void wait("small", [taking(1)]);
    await hand.to(10);
    expect(rates.take([taking(1, "m", { ...rate, onLimit: "fail" })])).toHaveProperty("over");
    stop.abort(new Error("given up"));
    await hand.to(20);
    expect(went.toSorted()).toEqual(["not large", "small"]);
    expect(hand.isIdle).toBe(true);
    await expect(rates.wait([taking(1)], [share("late")], stop.signal)).rejects.toThrow("given up");
  });

  test("give back what they have not used where they took it, and the next have it", async () => {
    const { hand, rates, went, wait } = setUp();
    const taken = rates.take([taking(10)]);
    if (!("over" in taken)) throw new TypeError("there was room");
    void wait("next", [taking(6)]);
    await hand.to(100);
    expect(went).toEqual([]);
    taken.over(true, 3);
    taken.over(true, 0);
    await hand.to(101);
    expect(went).toEqual(["next"]);
    expect(rates.take([taking(1)])).toHaveProperty("over");
    expect(rates.take([taking(1)])).toMatchObject({ rate, waitMs: 899 });
  });

  test("at a time wait for those that are under way, and for no timer", async () => {
    const slots: RateLimit = { resource: "toolCalls", per: "tool", max: 1, kind: "concurrent" };
    const { hand, rates, went, wait } = setUp();
    const first = rates.take([taking(1, "t", slots)]);
    if (!("over" in first)) throw new TypeError("there was room");
    void wait("second", [taking(1, "t", slots)]);
    await hand.to(100_000);
    expect(went).toEqual([]);
    expect(hand.isIdle).toBe(true);
    first.over(true);
    await hand.to(100_001);
    expect(went).toEqual(["second"]);
  });

  test("under another rate that they would not wait for are told so at their turn", async () => {
    const { hand, rates } = setUp();
    const hasty: RateLimit = { ...rate, per: "user", onLimit: "fail" };
    rates.take([taking(10)]);
    const waiting = rates.wait([taking(5), taking(5, "u", hasty)], [share("a")], new AbortController().signal);
    await hand.to(500);
    rates.take([taking(10, "u", hasty)]);
    await hand.to(1001);
    expect(await waiting).toMatchObject({ rate: hasty });
    expect(rates.take([taking(5), taking(5, "u", hasty)])).toMatchObject({ rate: hasty });
  });

  test("have no room that others hold who may use more than they were said to, and go one by one though very many wait", async () => {
    const { hand, rates, went, wait } = setUp();
    const taken = rates.take([taking(1)]);
    if (!("over" in taken)) throw new TypeError("there was room");
    taken.over(true, 10);
    for (let at = 0; at < 600; at++) void wait(String(at), [taking(0.01)]);
    await hand.to(900);
    expect(went).toEqual([]);
    await hand.to(2100);
    expect(went).toHaveLength(600);
  });
});
