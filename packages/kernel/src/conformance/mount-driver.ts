// The law of `MountDriver` (abi/file.ts) as cases, over an empty tree that may be written.

import type { MountDriver, WriteOptions, WriteResult } from "../abi/file.ts";
import { SEQ_ZERO, type Seq } from "../base/id.ts";
import { toPath } from "../base/path.ts";
import { type ConformanceCase, rejects, same } from "./case.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const ALL = { offset: 0, length: 1 << 20 };
const path = (text: string): ReturnType<typeof toPath> => toPath(text);
const make = async (driver: MountDriver, at: string, text: string, options: WriteOptions = {}): Promise<void> => {
  await driver.write(path(at), bytesOf(text), { create: "maybe", ...options });
};
const namesIn = async (driver: MountDriver, at: string): Promise<readonly string[]> =>
  (await driver.readdir(path(at))).map(({ name }) => name).toSorted();

export const MOUNT_DRIVER_CASES: readonly ConformanceCase<MountDriver>[] = [
  {
    name: "its root is a directory, and what is not there has no status",
    run: async (driver) => {
      same((await driver.stat(path("/")))?.type, "directory", "the root");
      same(await driver.readdir(path("/")), [], "what is in it");
      same(await driver.stat(path("/none")), undefined, "what is not there");
      same(await driver.stat(path("/none/below")), undefined, "what is below that");
    },
  },
  {
    name: "a file is what was written, has its size, and is listed once",
    run: async (driver) => {
      await make(driver, "/a", "hello");
      same(await driver.read(path("/a"), ALL), bytesOf("hello"), "the content");
      const stat = await driver.stat(path("/a"));
      same([stat?.type, stat?.size], ["file", 5], "its status");
      same(await driver.readdir(path("/")), [{ name: "a", type: "file" }], "the listing");
      await make(driver, "/a", "hi");
      same(await driver.read(path("/a"), ALL), bytesOf("hi"), "the content that replaces it");
      await make(driver, "/empty", "");
      same(await driver.read(path("/empty"), ALL), bytesOf(""), "an empty one");
    },
  },
  {
    name: "a range is cut off at the end of the file",
    run: async (driver) => {
      await make(driver, "/a", "0123456789");
      same(await driver.read(path("/a"), { offset: 2, length: 3 }), bytesOf("234"), "inside");
      same(await driver.read(path("/a"), { offset: 8, length: 10 }), bytesOf("89"), "over the end");
      same(await driver.read(path("/a"), { offset: 99, length: 1 }), bytesOf(""), "behind the end");
    },
  },
  {
    name: "an offset changes what it covers and nothing else",
    run: async (driver) => {
      await make(driver, "/a", "0123456789");
      await driver.write(path("/a"), bytesOf("ab"), { offset: 4 });
      same(await driver.read(path("/a"), ALL), bytesOf("0123ab6789"), "inside");
      await driver.write(path("/a"), bytesOf("xy"), { offset: 9 });
      same(await driver.read(path("/a"), ALL), bytesOf("0123ab678xy"), "over the end");
    },
  },
  {
    name: "what is appended comes behind everything, whoever appends at the same time",
    run: async (driver) => {
      await make(driver, "/a", "0");
      const appended = await Promise.all(
        Array.from({ length: 20 }, () => driver.append(path("/a"), bytesOf("12345"), {})),
      );
      same(appended.map(({ size }) => size).toSorted((a, b) => b - a)[0], 101, "the size that the last one tells");
      same((await driver.stat(path("/a")))?.size, 101, "its size");
      await rejects(driver.append(path("/none"), bytesOf("x"), {}), "ENOENT", "what is not there");
      await driver.append(path("/new"), bytesOf("x"), { create: "maybe" });
      same(await driver.read(path("/new"), ALL), bytesOf("x"), "one that is made");
      await rejects(driver.append(path("/new"), bytesOf("x"), { create: "must" }), "EEXIST", "one that must be new");
      await driver.mkdir(path("/d"));
      await rejects(driver.append(path("/d"), bytesOf("x"), {}), "EISDIR", "a directory");
    },
  },
  {
    name: "a file is cut off, or filled with zeros",
    run: async (driver) => {
      await make(driver, "/a", "0123456789");
      same((await driver.truncate(path("/a"), 4)).size, 4, "its size");
      same(await driver.read(path("/a"), ALL), bytesOf("0123"), "cut off");
      await driver.truncate(path("/a"), 6);
      same(await driver.read(path("/a"), ALL), bytesOf("0123\0\0"), "filled");
      await driver.truncate(path("/a"), 0);
      same(await driver.read(path("/a"), ALL), bytesOf(""), "empty");
      await rejects(driver.truncate(path("/none"), 0), "ENOENT", "what is not there");
      await driver.mkdir(path("/d"));
      await rejects(driver.truncate(path("/d"), 0), "EISDIR", "a directory");
    },
  },
  {
    name: "a generation is of one content, and a write of another one is refused; or there are none",
    run: async (driver) => {
      await make(driver, "/a", "one");
      const generation = (await driver.stat(path("/a")))?.generation ?? SEQ_ZERO;
      const write = (text: string, ifGeneration: Seq): Promise<WriteResult> =>
        driver.write(path("/a"), bytesOf(text), { ifGeneration });
      if (generation === SEQ_ZERO) return rejects(write("two", SEQ_ZERO), "ENOTSUP", "a driver without generations");
      const next = await write("two", generation);
      same((await driver.stat(path("/a")))?.generation, next.generation, "what the write says");
      await rejects(write("three", generation), "ESTALE", "the content before");
      const at = { offset: 1, ifGeneration: generation };
      await rejects(driver.write(path("/a"), bytesOf("x"), at), "ESTALE", "at an offset");
      same(await driver.read(path("/a"), ALL), bytesOf("two"), "the content");
    },
  },
  {
    name: "a file is made only where that was asked for, and not made again where it must be new",
    run: async (driver) => {
      await rejects(driver.write(path("/a"), bytesOf("x"), {}), "ENOENT", "without `create`");
      same(await driver.stat(path("/a")), undefined, "it was not made");
      await make(driver, "/a", "one", { create: "must" });
      await rejects(
        driver.write(path("/a"), bytesOf("two"), { create: "must" }),
        "EEXIST",
        "`must` on one that is there",
      );
      same(await driver.read(path("/a"), ALL), bytesOf("one"), "its content");
      await rejects(make(driver, "/none/a", "x"), "ENOENT", "in a directory that is not there");
    },
  },
  {
    name: "directories nest, are made once, and are removed when they are empty",
    run: async (driver) => {
      await driver.mkdir(path("/d"));
      await driver.mkdir(path("/d/e"));
      await make(driver, "/d/e/f", "x");
      same(await namesIn(driver, "/d"), ["e"], "the listing");
      await rejects(driver.mkdir(path("/d")), "EEXIST", "making it again");
      await rejects(driver.mkdir(path("/none/d")), "ENOENT", "below what is not there");
      await rejects(driver.unlink(path("/d/e")), "ENOTEMPTY", "removing a full one");
      await driver.unlink(path("/d/e/f"));
      await driver.unlink(path("/d/e"));
      same(await namesIn(driver, "/d"), [], "afterwards");
    },
  },
  {
    name: "a file is no directory, and a directory no file",
    run: async (driver) => {
      await driver.mkdir(path("/d"));
      await make(driver, "/a", "x");
      await rejects(driver.read(path("/d"), ALL), "EISDIR", "reading a directory");
      await rejects(driver.write(path("/d"), bytesOf("x"), { create: "maybe" }), "EISDIR", "writing one");
      await rejects(driver.readdir(path("/a")), "ENOTDIR", "listing a file");
    },
  },
  {
    name: "what is not there cannot be read, listed, removed or moved",
    run: async (driver) => {
      await rejects(driver.read(path("/none"), ALL), "ENOENT", "reading it");
      await rejects(driver.readdir(path("/none")), "ENOENT", "listing it");
      await rejects(driver.unlink(path("/none")), "ENOENT", "removing it");
      await rejects(driver.rename(path("/none"), path("/other")), "ENOENT", "moving it");
    },
  },
  {
    name: "a rename moves a file or a tree, over a file that is there",
    run: async (driver) => {
      await driver.mkdir(path("/d"));
      await make(driver, "/d/a", "one");
      await make(driver, "/b", "two");
      await driver.rename(path("/d/a"), path("/b"));
      same(await driver.read(path("/b"), ALL), bytesOf("one"), "the file that was moved");
      await make(driver, "/d/c", "three");
      await driver.rename(path("/d"), path("/e"));
      same(await driver.read(path("/e/c"), ALL), bytesOf("three"), "a file of the tree that was moved");
      same(await namesIn(driver, "/"), ["b", "e"], "the listing");
    },
  },
  {
    name: "names are what they are: capitals, spaces, other scripts, a leading dot",
    run: async (driver) => {
      const names = [".hidden", "a b", "A", "a", "ä", "日本", "%2F", "a.json"].toSorted();
      for (const name of names) await make(driver, `/${name}`, name);
      same(await namesIn(driver, "/"), names, "the listing");
      for (const name of names) same(await driver.read(path(`/${name}`), ALL), bytesOf(name), name);
    },
  },
  {
    name: "many changes at once are all done",
    run: async (driver) => {
      const names = Array.from({ length: 32 }, (_, at) => `f${at}`);
      await Promise.all(names.map((name) => make(driver, `/${name}`, name)));
      same(await namesIn(driver, "/"), names.toSorted(), "the listing");
      await Promise.all(names.map((name) => driver.unlink(path(`/${name}`))));
      same(await namesIn(driver, "/"), [], "afterwards");
    },
  },
];
