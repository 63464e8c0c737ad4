// The law of `ObjectStore` (abi/object-store.ts) as cases.

import type { ObjectStore } from "../abi/object-store.ts";
import { parseContentId } from "../base/id.ts";
import { KernelError } from "../base/errno.ts";
import { SharingBytes, type ConformanceCase, rejects, same } from "./case.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** SHA-256 of "hello". */
const HELLO = "sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

export const OBJECT_STORE_CASES: readonly ConformanceCase<ObjectStore>[] = [
  {
    name: "content is named by its SHA-256",
    run: async (store) => {
      same(await store.put(bytesOf("hello")), HELLO, "the id");
      same(await store.get(known(HELLO)), bytesOf("hello"), "the content");
    },
  },
  {
    name: "equal content is stored once, also when two write it at the same time",
    run: async (store) => {
      const ids = await Promise.all(Array.from({ length: 8 }, () => store.put(bytesOf("the same"))));
      same(new Set(ids).size, 1, "ids");
    },
  },
  {
    name: "a range is cut off at the end of the content",
    run: async (store) => {
      const id = await store.put(bytesOf("0123456789"));
      same(await store.get(id, { offset: 2, length: 3 }), bytesOf("234"), "inside");
      same(await store.get(id, { offset: 8, length: 10 }), bytesOf("89"), "over the end");
      same(await store.get(id, { offset: 99, length: 1 }), new Uint8Array(0), "behind the end");
    },
  },
  {
    name: "empty and large content come back whole",
    run: async (store) => {
      const empty = await store.put(new Uint8Array(0));
      same(await store.size(empty), 0, "the size of nothing");
      same(await store.get(empty), new Uint8Array(0), "nothing");
      const large = new Uint8Array(3 * 1024 * 1024).map((_, at) => at % 251);
      const back = await store.get(await store.put(large));
      same(back.length, large.length, "the size of 3 MiB");
      same(
        back.every((byte, at) => byte === at % 251),
        true,
        "the bytes of 3 MiB",
      );
    },
  },
  {
    name: "bytes may be reused by the caller once put has settled, of whatever kind they are",
    run: async (store) => {
      const bytes = new SharingBytes(bytesOf("abc"));
      const id = await store.put(bytes);
      bytes.fill(0);
      same(await store.get(id), bytesOf("abc"), "the content");
    },
  },
  {
    name: "what was read is the caller's, who may change it",
    run: async (store) => {
      const id = await store.put(bytesOf("abcdef"));
      for (const range of [undefined, { offset: 1, length: 3 }]) {
        const first = await store.get(id, range);
        const before = Uint8Array.from(first);
        first.fill(0);
        same(await store.get(id, range), before, "the content, read again");
      }
    },
  },
  {
    name: "what is not there is ENOENT, has no size, and may be deleted",
    run: async (store) => {
      await rejects(store.get(known(HELLO)), "ENOENT", "reading it");
      same(await store.size(known(HELLO)), undefined, "its size");
      await store.delete(known(HELLO));
    },
  },
  {
    name: "what is stored is listed, once each, and what was deleted is not",
    run: async (store) => {
      const ids = await Promise.all(["one", "two", "three", "two"].map((text) => store.put(bytesOf(text))));
      const [one] = ids;
      if (one !== undefined) await store.delete(one);
      const listed: string[] = [];
      for await (const id of store.list()) listed.push(id);
      same(listed.sort(), [...new Set(ids.slice(1))].sort(), "the ids");
    },
  },
  {
    name: "deleted content is gone and can be stored again",
    run: async (store) => {
      const id = await store.put(bytesOf("hello"));
      await store.delete(id);
      same(await store.size(id), undefined, "its size");
      await store.put(bytesOf("hello"));
      same(await store.get(id), bytesOf("hello"), "the content");
    },
  },
];

function known(text: string): NonNullable<ReturnType<typeof parseContentId>> {
  const id = parseContentId(text);
  if (id === undefined) throw new KernelError("EFAULT", `${text} is no content id`);
  return id;
}
