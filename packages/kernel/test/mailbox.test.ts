// Mailboxes against a model that sorts, and routes against the rules in words.

import { Mailbox, type Message, PRIORITIES, RELATIONS, type Relation, type Priority, toPid } from "@ergos/kernel";
import { array, assert, constant, constantFrom, integer, oneof, property, record } from "fast-check";
import { expect, test } from "vitest";

const message = record({
  priority: constantFrom(...(Object.keys(PRIORITIES) as Priority[])),
  relation: constantFrom<Relation>(...RELATIONS),
  at: integer({ min: 0, max: 60_000 }),
  from: integer({ min: 2, max: 4 }).map(toPid),
});
const action = oneof(
  { weight: 3, arbitrary: message.map((sent) => ({ sent })) },
  { weight: 2, arbitrary: constant({ from: undefined }) },
  { weight: 1, arbitrary: integer({ min: 2, max: 4 }).map((from) => ({ from })) },
);

test("messages are read by priority less age, then relation, then first come", () => {
  assert(
    property(array(action, { maxLength: 200 }), (actions) => {
      const box = new Mailbox();
      const model: { readonly message: Message; readonly number: number }[] = [];
      let number = 0;
      // Effective priority now: the explicit one less a tenth for each second of age. The same for all whenever it is asked.
      const now = 120_000;
      const effective = ({ priority, at }: Message): number => PRIORITIES[priority] - ((now - at) / 1000) * 0.1;
      for (const one of actions) {
        if ("sent" in one) {
          const sent: Message = { id: String(number), to: toPid(9), kind: "message", body: number, ...one.sent };
          model.push({ message: sent, number: number++ });
          box.reserve(1);
          box.add(sent, 1);
          continue;
        }
        const candidates = model.filter((item) => one.from === undefined || item.message.from === one.from);
        const [first] = candidates.toSorted(
          (a, b) =>
            Math.round((effective(a.message) - effective(b.message)) * 1e6) ||
            RELATIONS.indexOf(a.message.relation) - RELATIONS.indexOf(b.message.relation) ||
            a.number - b.number,
        );
        const taken = box.take(one.from === undefined ? undefined : ({ from }) => from === one.from);
        expect(taken?.message.id).toBe(first?.message.id);
        if (first !== undefined) model.splice(model.indexOf(first), 1);
        if (taken !== undefined) box.free(taken.size);
      }
      expect(box.count).toBe(model.length);
    }),
  );
});

test("who waits is handed what matches, in the order of waiting", () => {
  const box = new Mailbox();
  const got: string[] = [];
  const give = (id: string, from: number): void => {
    const sent: Message = {
      id,
      from: toPid(from),
      to: toPid(9),
      kind: "message",
      relation: "other",
      priority: "normal",
      body: null,
      at: 0,
    };
    box.reserve(1);
    box.add(sent, 1);
  };
  box.wait(
    ({ from }) => from === 2,
    ({ message: { id } }) => got.push(`two:${id}`),
  );
  const stop = box.wait(undefined, ({ message: { id } }) => got.push(`any:${id}`));
  stop();
  box.wait(undefined, ({ message: { id } }) => got.push(`last:${id}`));
  give("a", 3);
  give("b", 2);
  give("c", 2);

  expect(got).toEqual(["last:a", "two:b"]);
  expect(box.waiting.map(({ id }) => id)).toEqual(["c"]);
});
