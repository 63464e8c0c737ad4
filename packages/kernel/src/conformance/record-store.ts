// The law of `RecordStore` (abi/record-store.ts) as cases, in the SQL that databases share.

import type { RecordSession, RecordStore } from "../abi/record-store.ts";
import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { type ConformanceCase, rejects, same } from "./case.ts";

const makeTable = async (store: RecordStore): Promise<void> => {
  const { integer, text, bytes, real } = store.features.types;
  await store.execute(`CREATE TABLE things (id ${text} PRIMARY KEY, n ${integer} NOT NULL, x ${real}, b ${bytes})`);
};
const countOf = async (store: RecordStore): Promise<unknown> =>
  (await store.query("SELECT COUNT(*) AS count FROM things"))[0]?.["count"];

export const RECORD_STORE_CASES: readonly ConformanceCase<RecordStore>[] = [
  {
    name: "values come back as they were stored",
    run: async (store) => {
      await makeTable(store);
      const bytes = new Uint8Array([0, 1, 255]);
      same(
        await store.execute("INSERT INTO things (id, n, x, b) VALUES (?, ?, ?, ?)", ["ä'?", 42, 0.5, bytes]),
        { changes: 1 },
        "an insertion",
      );
      await store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["second", -7]);
      same(
        await store.query("SELECT id, n, x, b FROM things ORDER BY n DESC"),
        [
          { id: "ä'?", n: 42, x: 0.5, b: bytes },
          { id: "second", n: -7, x: null, b: null },
        ],
        "the rows",
      );
    },
  },
  {
    name: "a question mark inside of a text, a name or a comment is none for a parameter",
    run: async (store) => {
      await makeTable(store);
      await store.execute("INSERT INTO things (id, n) VALUES ('what?', ?) -- why?\n", [1]);
      same(
        await store.query('SELECT id AS "id?", n /* ? */ FROM things WHERE id = ?', ["what?"]),
        [{ "id?": "what?", n: 1 }],
        "the row",
      );
    },
  },
  {
    name: "changes are counted",
    run: async (store) => {
      await makeTable(store);
      for (let n = 0; n < 3; n++) await store.execute("INSERT INTO things (id, n) VALUES (?, ?)", [`t${n}`, n]);
      same(await store.execute("UPDATE things SET n = n + 1 WHERE n > ?", [0]), { changes: 2 }, "an update");
      same(await store.execute("DELETE FROM things WHERE id = ?", ["nobody"]), { changes: 0 }, "a deletion of nothing");
    },
  },
  {
    name: "what is refused says why by its code, and changes nothing",
    run: async (store) => {
      await makeTable(store);
      await store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 1]);
      await rejects(store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 2]), "EEXIST", "a key twice");
      await rejects(store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["b", null]), "EINVAL", "no value");
      await rejects(store.query("SELECT * FROM nowhere"), "EINVAL", "a table that is not there");
      await rejects(store.query("SELEKT 1"), "EINVAL", "no SQL");
      await rejects(store.query("SELECT ? AS a", []), "EINVAL", "a parameter that is missing");
      same(await countOf(store), 1, "rows");
    },
  },
  {
    name: "more rows than anybody wants at once are refused",
    run: async (store) => {
      const many = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n <= ${LIMITS.recordRowsMax}) SELECT n FROM c`;
      await rejects(store.query(many), "E2BIG", "rows without end");
      same((await store.query(`${many} LIMIT 5`)).length, 5, "some of them");
    },
  },
  {
    name: "a transaction is all or nothing",
    run: async (store) => {
      await makeTable(store);
      const two = await store.transaction(async (session) => {
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 1]);
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["b", 2]);
        return (await session.query("SELECT id FROM things")).length;
      });
      same(two, 2, "what the transaction saw");
      const failing = store.transaction(async (session) => {
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["c", 3]);
        throw new KernelError("ECANCELED", "changed my mind");
      });
      await rejects(failing, "ECANCELED", "one that fails");
      const refused = store.transaction(async (session) => {
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["d", 4]);
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 5]);
      });
      await rejects(refused, "EEXIST", "one that is refused");
      same(await countOf(store), 2, "rows");
    },
  },
  {
    name: "a transaction of which a statement was refused does nothing, also where its function goes on",
    run: async (store) => {
      await makeTable(store);
      await store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 1]);
      const going = store.transaction(async (session) => {
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["b", 2]);
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 3]).catch(() => undefined);
        return "done";
      });
      await rejects(going, "EEXIST", "one that was refused meanwhile");
      const unwatched = store.transaction(async (session) => {
        session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 3]).catch(() => undefined);
        return Promise.resolve("done");
      });
      await rejects(unwatched, "EEXIST", "one that did not wait for it");
      same(await countOf(store), 1, "rows");
    },
  },
  {
    name: "what the function of a transaction throws comes out as it is",
    run: async (store) => {
      const mine = new RangeError("mine");
      const thrown = await store.transaction(() => Promise.reject(mine)).catch((error: unknown) => error);
      same(thrown === mine, true, "the same error");
    },
  },
  {
    name: "a session is over with its transaction, and what was begun in that may ask for itself afterwards",
    run: async (store) => {
      await makeTable(store);
      const [over, kept] = [Promise.withResolvers<void>(), Promise.withResolvers<RecordSession>()];
      let later: Promise<unknown> | undefined;
      await store.transaction(async (session) => {
        kept.resolve(session);
        await rejects(
          store.transaction(() => Promise.resolve()),
          "EDEADLK",
          "one inside of it",
        );
        later = over.promise.then(() => store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 1]));
      });
      await rejects((await kept.promise).execute("DELETE FROM things"), "EINVAL", "its session afterwards");
      over.resolve();
      same(await later, { changes: 1 }, "what was begun inside");
    },
  },
  {
    name: "a call is one statement, and no part of a transaction",
    run: async (store) => {
      await makeTable(store);
      const insert = "INSERT INTO things (id, n) VALUES ('a', 1)";
      await rejects(store.execute(`${insert}; DELETE FROM things`), "EINVAL", "two");
      for (const word of ["BEGIN", " commit", "Rollback;", "SAVEPOINT s"])
        await rejects(store.execute(word), "EINVAL", word);
      same(await store.execute(`${insert}; -- and ; no more`), { changes: 1 }, "one");
      same(await countOf(store), 1, "rows");
    },
  },
  {
    name: "transactions at the same time are as if one came after the other",
    run: async (store) => {
      await makeTable(store);
      await store.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["counter", 0]);
      const add = (): Promise<void> =>
        store.transaction(async (session) => {
          const [row] = await session.query("SELECT n FROM things WHERE id = ?", ["counter"]);
          await session.execute("UPDATE things SET n = ? WHERE id = ?", [Number(row?.["n"]) + 1, "counter"]);
        });
      await Promise.all(Array.from({ length: 12 }, add));
      same((await store.query("SELECT n FROM things"))[0], { n: 12 }, "the counter");
    },
  },
  {
    name: "nobody sees what a transaction has not brought to its end",
    run: async (store) => {
      await makeTable(store);
      const [inside, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const writing = store.transaction(async (session) => {
        await session.execute("INSERT INTO things (id, n) VALUES (?, ?)", ["a", 1]);
        inside.resolve();
        await goOn.promise;
      });
      await inside.promise;
      same(await countOf(store), 0, "rows meanwhile");
      same(
        (await store.query("SELECT id FROM things", [], { from: "replica" })).length,
        0,
        "rows of a replica meanwhile",
      );
      goOn.resolve();
      await writing;
      same(await countOf(store), 1, "rows afterwards");
    },
  },
  {
    name: "a store that was closed answers nothing",
    run: async (store) => {
      await store.close();
      await store.close();
      await rejects(store.query("SELECT 1"), "EIO", "a query");
      await rejects(
        store.transaction(() => Promise.resolve()),
        "EIO",
        "a transaction",
      );
    },
  },
];
