// Files of the namespace in the shape of `node:fs/promises`: every case runs on Node's own as well, and both must agree.

import { Dirent, Stats, mkdtempSync, rmSync } from "node:fs";
import * as promises from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Kernel } from "@ergos/kernel";
import { type NodeFs, toNodeFs } from "@ergos/services/faces";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

type Fs = Omit<NodeFs, "promises">;
/** Does something below a directory, and gives what is to be the same on both. */
type Case = (fs: Fs, dir: string) => Promise<unknown>;

/** What a failure looks like to a program. */
const failure = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    return ["no failure", await work];
  } catch (error) {
    const { code, syscall, errno } = error as {
      readonly code?: string;
      readonly syscall?: string;
      readonly errno?: number;
    };
    return { code, syscall, errno };
  }
};
const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
  ((await failure(work)) as { readonly code?: string }).code;

const CASES: Readonly<Record<string, Case>> = {
  "many who append to a file that is not there yet lose nothing": async (fs, dir) => {
    const [log, other] = [join(dir, "log"), join(dir, "other")];
    await Promise.all(["A", "B", "C", "D"].map((text) => fs.appendFile(log, text)));
    const openers = ["A", "B", "C"].map(async (text) => {
      await using handle = await fs.open(other, "a");
      await handle.write(text);
    });
    await Promise.all([...openers, fs.open(other, "a+").then((handle) => handle.close())]);
    const sorted = async (path: string): Promise<string> =>
      (await fs.readFile(path, "utf8")).split("").toSorted().join("");
    return [await sorted(log), await sorted(other)];
  },
  "directories on the way are made one by one, by one of those who make them, with their mode": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    const made = await Promise.all(Array.from({ length: 8 }, () => fs.mkdir(at("one/two"), { recursive: true })));
    await fs.writeFile(at("f"), "");
    await fs.symlink("nothing", at("nowhere"));
    await fs.symlink("one", at("way"));
    await fs.mkdir(at("m/n"), { recursive: true, mode: 0o700 });
    // Who makes the second one is a matter of luck.
    const first = made.filter((path) => path !== undefined).map((path) => path.slice(dir.length));
    return [
      first.filter((path) => path === "/one"),
      first.length === new Set(first).size,
      await codeOf(fs.mkdir(at("f/x"), { recursive: true })),
      await codeOf(fs.mkdir(at("nowhere/x"), { recursive: true })),
      await codeOf(fs.mkdir(at("nowhere"))),
      await codeOf(fs.stat(at("nothing"))),
      (await fs.mkdir(at("way/two/three/four"), { recursive: true }))?.slice(dir.length),
      await fs.readdir(at("one/two")),
      (await fs.stat(at("m"))).mode & 0o777,
      (await fs.stat(at("m/n"))).mode & 0o777,
    ];
  },
  "the time of a directory is that of its entries, unless it is set": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    for (const name of ["d", "e"]) await fs.mkdir(at(name));
    const moves = async (work: () => Promise<unknown>): Promise<readonly boolean[]> => {
      for (const name of ["d", "e"]) await fs.utimes(at(name), 1, 1);
      await work();
      return Promise.all(["d", "e"].map(async (name) => (await fs.stat(at(name))).mtimeMs > 1000));
    };
    return [
      await moves(() => fs.writeFile(at("d/f"), "text")),
      await moves(() => fs.writeFile(at("d/f"), "again")),
      await moves(() => fs.chmod(at("d/f"), 0o600)),
      await moves(() => fs.mkdir(at("d/sub"))),
      await moves(() => fs.writeFile(at("d/sub/g"), "text")),
      await moves(() => fs.rename(at("d/f"), at("d/h"))),
      await moves(() => fs.rename(at("d/h"), at("e/h"))),
      await moves(() => fs.symlink("nothing", at("e/l"))),
      await moves(() => fs.unlink(at("e/h"))),
      await moves(() => fs.rm(at("d/sub"), { recursive: true })),
      await moves(() => fs.chmod(at("d"), 0o700)),
    ];
  },
  "what is found is of Node's classes, and a directory is closed once": async (fs, dir) => {
    await fs.writeFile(join(dir, "f"), "text");
    const [entry] = await fs.readdir(dir, { withFileTypes: true });
    const open = await fs.opendir(dir);
    const first = await open.read();
    await open.close();
    return [
      (await fs.stat(dir)) instanceof Stats,
      entry instanceof Dirent,
      first instanceof Dirent,
      await codeOf(open.close()),
      await codeOf(open.read()),
      await fs.stat(join(dir, "f/x"), { throwIfNoEntry: false }),
      await codeOf(fs.link(join(dir, "none"), join(dir, "g"))),
      await codeOf(fs.link(join(dir, "f"), join(dir, "f"))),
      await codeOf(fs.link(join(dir, "f"), join(dir, "none/g"))),
    ];
  },
  "a file is a stream of the web, and none once it is closed": async (fs, dir) => {
    await fs.writeFile(join(dir, "f"), "some text");
    const handle = await fs.open(join(dir, "f"));
    const text = await new Response(handle.readableWebStream()).text();
    await handle.close();
    const thrown = (work: () => unknown): unknown => {
      try {
        return work();
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    };
    const unread = await fs.open(join(dir, "f"));
    const stream = unread.createReadStream();
    stream.destroy();
    await new Promise<void>((go) => stream.once("close", () => go()));
    for (let tries = 0; tries < 100 && (await codeOf(unread.stat())) !== "EBADF"; tries++)
      await new Promise((go) => setTimeout(go, 2));
    const unwanted = await fs.open(join(dir, "f"));
    await unwanted.readableWebStream({ autoClose: true }).cancel();
    return [
      text,
      thrown(() => handle.createReadStream()),
      thrown(() => handle.createWriteStream()),
      thrown(() => handle.readableWebStream()),
      await codeOf(unread.stat()),
      await codeOf(unwanted.stat()),
    ];
  },
  "globs find what Node finds": async (fs, dir) => {
    for (const name of ["a/b/c", "a/.hidden", "x"]) await fs.mkdir(join(dir, name), { recursive: true });
    for (const name of ["a/b/one.ts", "a/two.ts", "a/b/c/three.md", "a/.hidden/four.ts", "x/five.ts", "six.ts"])
      await fs.writeFile(join(dir, name), "");
    const all = async (patterns: string | string[], options: object = {}): Promise<unknown> => {
      const found: string[] = [];
      for await (const one of fs.glob(patterns, { cwd: dir, ...options })) found.push(one);
      return found.toSorted();
    };
    return [
      await all("**/*.ts"),
      await all("*"),
      await all("a/*"),
      await all("./a/b/one.ts"),
      await all("none/*"),
      await all("*/{two,five}.ts"),
      await all(["a/**", "six.*"]),
      await all("**/*.ts", { exclude: ["a/b/**"] }),
      await all("*/**", { exclude: (path: string) => path.startsWith("a") }),
      ((await all(`${dir}/x/*.ts`)) as string[]).map((path) => path.slice(dir.length)),
      await all("*/"),
      await all("a/"),
      await all("a/b/{one.ts,c}", { exclude: ["a/b"] }),
      await all("**/*", { exclude: ["**/b/**"] }),
      await all(`${dir}/x/*.ts`, { exclude: ["x/**"] }),
    ];
  },
  "a temporary directory goes with what it was made for": async (fs, dir) => {
    let path;
    {
      await using made = await fs.mkdtempDisposable(join(dir, "tmp-"));
      ({ path } = made);
      await fs.writeFile(join(path, "f"), "");
    }
    return [await codeOf(fs.stat(path)), await fs.readdir(dir)];
  },
  "a copied link replaces a link and nothing else": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    await fs.writeFile(at("f"), "precious");
    await fs.writeFile(at("g"), "other");
    await fs.symlink("f", at("l"));
    await fs.symlink("g", at("m"));
    const out = [await codeOf(fs.cp(at("l"), at("f"))), await codeOf(fs.cp(at("l"), at("g")))];
    await fs.cp(at("l"), at("m"), { verbatimSymlinks: true });
    return [...out, await fs.readFile(at("f"), "utf8"), await fs.readFile(at("g"), "utf8"), await fs.readlink(at("m"))];
  },
  "a tree that is copied does not write through links of the other": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    for (const name of ["src", "dst"]) await fs.mkdir(at(name));
    await fs.writeFile(at("src/f"), "new");
    await fs.writeFile(at("outside"), "OUTSIDE");
    await fs.symlink("../outside", at("dst/f"));
    await fs.cp(at("src"), at("dst"), { recursive: true });
    await fs.symlink("nothing", at("dangling"));
    return [
      await fs.readFile(at("outside"), "utf8"),
      (await fs.lstat(at("dst/f"))).isFile(),
      await codeOf(fs.copyFile(at("src/f"), at("dangling"), fs.constants.COPYFILE_EXCL)),
      await codeOf(fs.stat(at("nothing"))),
    ];
  },
  "a tree is not copied into itself, whatever leads there": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    await fs.mkdir(at("dir/inner"), { recursive: true });
    await fs.symlink("dir", at("ld"));
    return [
      await codeOf(fs.cp(at("dir"), at("ld/sub"), { recursive: true })),
      await codeOf(fs.cp(at("dir"), at("dir/inner/deep"), { recursive: true })),
      await fs.readdir(at("dir")),
    ];
  },
  "ranges, views and flags that are none are refused": async (fs, dir) => {
    const file = join(dir, "r");
    await fs.writeFile(file, "text");
    await fs.symlink("r", join(dir, "rl"));
    await using handle = await fs.open(file, "r+");
    const bytes = Buffer.from("ABCD");
    const out = [
      await codeOf(handle.write(bytes, 0, 9)),
      await codeOf(handle.write(bytes, -1)),
      await codeOf(handle.write(bytes, 0, -1)),
      await codeOf(handle.write(5 as unknown as Buffer)),
      await codeOf(handle.writev(["x"] as unknown as Buffer[])),
      await codeOf(handle.read(bytes, 0, 9)),
      await codeOf(fs.open(file, "rx")),
      await codeOf(fs.open(join(dir, "rl"), fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW)),
      await codeOf(fs.open(file, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)),
      await fs.readFile(file, "utf8"),
    ];
    await (await fs.open(file, fs.constants.O_RDWR | fs.constants.O_EXCL)).close();
    return out;
  },
  "what is aborted says so as Node does": async (fs, dir) => {
    const aborted = async (work: Promise<unknown>): Promise<unknown> => {
      const error = (await work.catch((thrown: unknown) => thrown)) as Error & { readonly code?: string };
      return [error.name, error.code, (error.cause as Error).message];
    };
    const stop = new AbortController();
    const pieces = async function* (): AsyncGenerator<string> {
      yield "one";
      stop.abort(new Error("enough"));
      yield "two";
    };
    const file = join(dir, "aborted");
    return [
      await aborted(fs.writeFile(file, pieces(), { signal: stop.signal })),
      await aborted(fs.readFile(file, { signal: stop.signal })),
    ];
  },
  "names with a slash behind them are directories": async (fs, dir) => {
    const at = (name: string): string => join(dir, name);
    await fs.mkdir(at("d"));
    await fs.symlink("d", at("ld"));
    await fs.writeFile(at("f"), "x");
    const made = await fs.mkdtemp(at("t-"));
    return [
      await codeOf(fs.unlink(`${at("ld")}/`)),
      await codeOf(fs.copyFile(`${at("f")}/`, at("g"))),
      (await fs.stat(made)).mode & 0o777,
    ];
  },
  "content is written, read, appended and cut off": async (fs, dir) => {
    const file = join(dir, "a.txt");
    await fs.writeFile(file, "grüße");
    await fs.appendFile(file, Buffer.from("!"));
    const seen = [await fs.readFile(file, "utf8"), await fs.readFile(file, { encoding: "base64" })];
    await fs.truncate(file, 2);
    const cut = await fs.readFile(file);
    await fs.truncate(file, 4);
    return [...seen, cut.toString("hex"), (await fs.readFile(file)).toString("hex")];
  },
  "content comes as bytes, views and iterables": async (fs, dir) => {
    const file = join(dir, "b");
    const out: unknown[] = [];
    for (const data of [
      new Uint8Array([1, 2]),
      new DataView(new Uint8Array([0, 9, 8, 7]).buffer, 1, 2),
      ["x", "y"],
      Readable.from(["p", "q"]),
      "61ff",
    ] as const) {
      await fs.writeFile(file, data as string, data === "61ff" ? "hex" : undefined);
      out.push((await fs.readFile(file)).toString("hex"));
    }
    return out;
  },
  "what was appended is where reading goes on": async (fs, dir) => {
    const file = join(dir, "log");
    await fs.writeFile(file, "0123456789");
    await using handle = await fs.open(file, "a+");
    const bytes = Buffer.alloc(4);
    const read = async (): Promise<unknown> => [(await handle.read(bytes, 0, 4, null)).bytesRead, bytes.toString()];
    const seen = [await read()];
    await handle.write("X");
    seen.push(await read());
    await handle.write("Q", 0);
    seen.push(await read(), await fs.readFile(file, "utf8"));
    return seen;
  },
  "attributes are changed through a handle wherever its file is": async (fs, dir) => {
    await fs.writeFile(join(dir, "a"), "A");
    await fs.writeFile(join(dir, "c"), "C");
    await using handle = await fs.open(join(dir, "a"), "r");
    await fs.rename(join(dir, "a"), join(dir, "b"));
    await fs.rename(join(dir, "c"), join(dir, "a"));
    await handle.chmod(0o600);
    await handle.utimes(1, 1);
    const seen: unknown[] = [];
    for (const name of ["a", "b"]) {
      const { mode, mtimeMs } = await fs.stat(join(dir, name));
      seen.push((mode & 0o777) === 0o600, mtimeMs === 1000);
    }
    await fs.unlink(join(dir, "b"));
    await handle.chmod(0o640);
    return [...seen, (await handle.stat()).mode & 0o777];
  },
  "wrong kinds and numbers fail as they do in Node": async (fs, dir) => {
    const [file, sub] = [join(dir, "f"), join(dir, "d")];
    await fs.writeFile(file, "hello");
    await fs.mkdir(sub);
    const failed: unknown[] = [];
    for (const work of [
      () => fs.opendir(file),
      () => fs.readFile(`${file}/`),
      () => fs.chmod(file, "abc"),
      () => fs.utimes(file, 1, Number.NaN),
      () => fs.cp(file, file),
      () => fs.cp(sub, file, { recursive: true }),
      () => fs.cp(file, sub),
    ])
      failed.push(await codeOf(work()));
    await fs.truncate(file, -5);
    return [...failed, (await fs.stat(file)).size];
  },
  "a stream writes texts in its encoding": async (fs, dir) => {
    const handle = await fs.open(join(dir, "hex"), "w");
    const stream = handle.createWriteStream({ encoding: "hex" });
    await new Promise<void>((done, fail) => stream.on("error", fail).end("616263", () => done()));
    return fs.readFile(join(dir, "hex"), "utf8");
  },
  "flags decide what may be there": async (fs, dir) => {
    const file = join(dir, "c");
    const out = [await failure(fs.writeFile(file, "1", { flag: "r+" }))];
    await fs.writeFile(file, "12345", { flag: "wx" });
    out.push(await failure(fs.writeFile(file, "2", { flag: "wx" })));
    await fs.writeFile(file, "ab", { flag: "r+" });
    await fs.writeFile(file, "z", { flag: "a" });
    return [...out, await fs.readFile(file, "utf8"), await codeOf(fs.open(file, "q"))];
  },
  "what is not there, or is something else, is told by its code": async (fs, dir) => {
    const [file, folder] = [join(dir, "f"), join(dir, "d")];
    await fs.writeFile(file, "");
    await fs.mkdir(folder);
    await fs.writeFile(join(folder, "in"), "");
    const missing = join(dir, "missing");
    return [
      await failure(fs.readFile(missing)),
      await failure(fs.stat(missing)),
      await failure(fs.access(missing)),
      await failure(fs.readdir(missing)),
      await failure(fs.mkdir(join(missing, "x"))),
      await failure(fs.writeFile(join(missing, "x"), "")),
      await failure(fs.rename(missing, file)),
      await failure(fs.rename(file, join(missing, "x"))),
      await failure(fs.copyFile(missing, file)),
      await failure(fs.unlink(missing)),
      await failure(fs.rmdir(missing)),
      await failure(fs.readlink(missing)),
      await failure(fs.truncate(missing)),
      await failure(fs.chmod(missing, 0o600)),
      await failure(fs.mkdir(folder)),
      await failure(fs.readdir(file)),
      await failure(fs.rmdir(folder)),
      await failure(fs.rmdir(file)),
      await codeOf(fs.unlink(folder)),
      await failure(fs.readlink(file)),
      await codeOf(fs.readFile(folder)),
      await codeOf(fs.writeFile(folder, "")),
      await codeOf(fs.stat(join(file, "x"))),
      await codeOf(fs.mkdir(join(file, "x"), { recursive: true })),
      await codeOf(fs.mkdir(file, { recursive: true })),
      await codeOf(fs.rm(folder)),
      await codeOf(fs.rm(missing)),
      await codeOf(fs.copyFile(file, file, promises.constants.COPYFILE_EXCL)),
      await codeOf(fs.cp(folder, join(dir, "e"))),
      await codeOf(fs.stat("a\0b")),
      await codeOf(fs.stat(3 as never)),
      await codeOf(fs.stat("")),
      await codeOf(fs.stat(`${file}/`)),
      await fs.stat(missing, { throwIfNoEntry: false } as never).catch(() => "thrown"),
      await fs.rm(missing, { force: true }),
    ];
  },
  "directories are made, listed, copied and removed as trees": async (fs, dir) => {
    const deep = join(dir, "x/y/z");
    const first = await fs.mkdir(deep, { recursive: true });
    const again = await fs.mkdir(deep, { recursive: true });
    await fs.writeFile(join(deep, "file"), "1");
    await fs.symlink("file", join(deep, "link"));
    await fs.cp(join(dir, "x"), join(dir, "copy"), { recursive: true });
    const plain = (await fs.readdir(join(dir, "copy"), { recursive: true })).toSorted();
    const typed = (await fs.readdir(deep, { withFileTypes: true })).map((one) => [
      one.name,
      one.isFile(),
      one.isSymbolicLink(),
      one.parentPath === deep,
    ]);
    const opened: string[] = [];
    for await (const entry of await fs.opendir(join(dir, "x"))) opened.push(entry.name);
    await fs.rm(join(dir, "x"), { recursive: true });
    return [
      first === join(dir, "x"),
      again,
      plain,
      new Set(typed.map(String)),
      opened,
      await fs.readdir(dir),
      (await fs.readlink(join(dir, "copy/y/z/link"))).replace(dir, ""),
    ];
  },
  "links lead where they were written to lead, also when they are moved": async (fs, dir) => {
    await fs.mkdir(join(dir, "one/deep"), { recursive: true });
    await fs.writeFile(join(dir, "one/target"), "first");
    await fs.symlink("../target", join(dir, "one/deep/link"));
    await fs.symlink(join(dir, "one"), join(dir, "absolute"));
    await fs.symlink("nowhere", join(dir, "dangling"));
    const before = await fs.readFile(join(dir, "absolute/deep/link"), "utf8");
    await fs.mkdir(join(dir, "two"));
    await fs.writeFile(join(dir, "two/target"), "second");
    await fs.rename(join(dir, "one/deep"), join(dir, "two/deep"));
    return [
      before,
      await fs.readFile(join(dir, "two/deep/link"), "utf8"),
      await fs.readlink(join(dir, "two/deep/link")),
      (await fs.realpath(join(dir, "absolute/target"))).endsWith("one/target"),
      (await fs.lstat(join(dir, "dangling"))).isSymbolicLink(),
      (await fs.lstat(join(dir, "dangling"))).size,
      await codeOf(fs.stat(join(dir, "dangling"))),
      await failure(fs.symlink("x", join(dir, "dangling"))),
      await fs.writeFile(join(dir, "dangling"), "made").then(() => fs.readFile(join(dir, "nowhere"), "utf8")),
      await fs.unlink(join(dir, "absolute")).then(() => fs.readdir(join(dir, "one"))),
    ];
  },
  "renames replace files and empty directories, and nothing else": async (fs, dir) => {
    for (const name of ["d1", "d2", "full"]) await fs.mkdir(join(dir, name));
    for (const name of ["f1", "f2", "full/in"]) await fs.writeFile(join(dir, name), name);
    await fs.rename(join(dir, "f1"), join(dir, "f2"));
    await fs.rename(join(dir, "d1"), join(dir, "d2"));
    return [
      await fs.readFile(join(dir, "f2"), "utf8"),
      await codeOf(fs.rename(join(dir, "d2"), join(dir, "full"))),
      await codeOf(fs.rename(join(dir, "d2"), join(dir, "f2"))),
      await codeOf(fs.rename(join(dir, "f2"), join(dir, "d2"))),
      await codeOf(fs.rename(join(dir, "full"), join(dir, "full/below"))),
      (await fs.readdir(dir)).toSorted(),
    ];
  },
  "attributes are kept": async (fs, dir) => {
    const file = join(dir, "f");
    await fs.writeFile(file, "12345", { mode: 0o600 });
    await fs.utimes(file, 1, new Date(1_700_000_000_123));
    const stat = await fs.stat(file);
    const big = await fs.stat(file, { bigint: true });
    await fs.chmod(file, 0o755);
    await fs.rename(file, join(dir, "g"));
    const after = await fs.stat(join(dir, "g"));
    return [
      stat.mode & 0o777,
      stat.size,
      stat.isFile(),
      stat.isDirectory(),
      stat.mtimeMs,
      stat.mtime.toISOString(),
      typeof big.size,
      big.isFile(),
      after.mode & 0o777,
      after.ino === stat.ino,
      after.mtimeMs,
      (await fs.stat(dir)).isDirectory(),
    ];
  },
  "handles read and write where they are, and live on without a name": async (fs, dir) => {
    const file = join(dir, "f");
    const out: unknown[] = [];
    await using handle = await fs.open(file, "w+");
    await handle.write("hello ");
    await handle.write(Buffer.from("--world--"), 2, 5);
    await handle.write("H", 0);
    const buffer = Buffer.alloc(8);
    out.push(await handle.read(buffer, 1, 4, 0).then(({ bytesRead }) => [bytesRead, buffer.toString()]));
    out.push((await handle.read({ buffer: Buffer.alloc(3), position: 6 })).buffer.toString());
    await handle.truncate(8);
    await handle.appendFile("!");
    out.push((await handle.stat()).size);
    await fs.unlink(file);
    out.push((await handle.read(Buffer.alloc(20), 0, 20, 0)).bytesRead, await codeOf(fs.stat(file)));
    await fs.writeFile(file, "one\ntwo\r\nthree");
    const lines = await fs.open(file);
    const read: string[] = [];
    for await (const line of lines.readLines()) read.push(line);
    const appended = await fs.open(file, "a+");
    await appended.write("X", 0);
    out.push(read, await appended.readFile("utf8"), await fs.readFile(file, "utf8"));
    await appended.close();
    await appended.close();
    out.push(await codeOf(appended.stat()));
    const reader = await fs.open(file, "r");
    out.push(await codeOf(reader.write("x")));
    await reader.close();
    return out;
  },
  "streams carry more than fits into one chunk": async (fs, dir) => {
    const [from, to] = [join(dir, "from"), join(dir, "to")];
    const content = Buffer.alloc(300_000, "0123456789");
    await fs.writeFile(from, content);
    await pipeline((await fs.open(from)).createReadStream(), (await fs.open(to, "w")).createWriteStream());
    const part: Buffer[] = [];
    for await (const chunk of (await fs.open(from)).createReadStream({ start: 5, end: 14 })) part.push(chunk as Buffer);
    return [content.equals(await fs.readFile(to)), Buffer.concat(part).toString()];
  },
  "temporary directories have names of their own": async (fs, dir) => {
    const [one, two] = [await fs.mkdtemp(join(dir, "t-")), await fs.mkdtemp(join(dir, "t-"))];
    return [one === two, one.length - dir.length, (await fs.readdir(dir)).length];
  },
  "many names come back whole": async (fs, dir) => {
    await Promise.all(Array.from({ length: 2500 }, (_none, at) => fs.writeFile(join(dir, `n${at}`), "")));
    return [(await fs.readdir(dir)).length, new Set(await fs.readdir(dir)).size];
  },
};

let kernel: Kernel;
let real: string;
beforeAll(async () => {
  kernel = await bootKernel();
  real = mkdtempSync(join(tmpdir(), "ergos-node-fs-"));
});
afterAll(async () => {
  rmSync(real, { recursive: true, force: true });
  await kernel.close();
});

describe("the same as Node's own", () => {
  let number = 0;
  for (const [name, run] of Object.entries(CASES))
    test(name, async () => {
      const ours = toNodeFs(kernel.os.fs);
      const dir = `case${number++}`;
      await promises.mkdir(join(real, dir));
      await ours.mkdir(`/tmp/${dir}`, { recursive: true });
      const wanted = await run(promises, join(real, dir));
      expect(await run(ours, `/tmp/${dir}`)).toEqual(wanted);
    });
});

test("virtual files are read like others, and paths begin at the working directory", async () => {
  const fs = toNodeFs(kernel.os.fs, { cwd: "/sys" });
  expect(await fs.readFile("version", "utf8")).toMatch(/^\d/u);
  await using handle = await fs.open("version");
  expect(await handle.readFile("utf8")).toMatch(/^\d/u);
  expect(await fs.readdir("/")).toContain("proc");
  expect(await codeOf(fs.writeFile("/sys/version", "9"))).toBeDefined();
  expect(await codeOf(fs.link("/sys/version", "/srv/b"))).toBe("ENOTSUP");
  expect(Object.keys(fs.promises)).toEqual(expect.arrayContaining(["readFile", "stat"]));
});

test("changes are watched until the signal aborts", async () => {
  const fs = toNodeFs(kernel.os.fs);
  await fs.mkdir("/watched/deep", { recursive: true });
  const controller = new AbortController();
  const seen: unknown[] = [];
  const watching = (async () => {
    for await (const { eventType, filename } of fs.watch("/watched", { recursive: true, signal: controller.signal }))
      seen.push([eventType, filename]);
  })().catch((error: unknown) => error);
  await new Promise((go) => setImmediate(go));
  await fs.writeFile("/watched/deep/a", "1");
  await fs.writeFile("/watched/deep/a", "2");
  await fs.rename("/watched/deep/a", "/watched/b");
  await fs.unlink("/watched/b");
  await new Promise((go) => setImmediate(go));
  controller.abort();
  expect(await watching).toMatchObject({ name: "AbortError", code: "ABORT_ERR" });
  expect(seen).toEqual([
    ["rename", "deep/a"],
    ["change", "deep/a"],
    ["rename", "deep/a"],
    ["rename", "b"],
    ["rename", "b"],
  ]);
});
