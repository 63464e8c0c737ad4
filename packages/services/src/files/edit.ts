// Exact replacements in a text file, all of them or none.

import { type Files, KernelError, type WriteResult, isKernelError } from "@ergos/kernel";

export interface Edit {
  /** What is replaced, exactly as it stands there. */
  readonly find: string;
  readonly replace: string;
  /** Everywhere; otherwise it must be there once. */
  readonly all?: boolean;
}

/** Who loses that often against others has lost only to those who have won: it ends when they are done. */
const TRIES = 200;

/**
 * Replaces parts of a text, each edit in what the ones before it have left. Nobody else's write is lost: if the file
 * changes meanwhile, the edits are done to what it is then.
 * @throws {EINVAL} a text that is to be replaced is not there, or several times: which edit, and where · {ENOENT} no file
 */
export async function editFile(files: Files, path: string, edits: readonly Edit[]): Promise<WriteResult> {
  for (let tries = 1; ; tries++) {
    const { generation } = await files.stat(path);
    const text = applyEdits(decode(await files.read(path), path), edits, path);
    try {
      return await files.write(path, text, generation === 0 ? {} : { ifGeneration: generation });
    } catch (error) {
      if (!isKernelError(error) || error.code !== "ESTALE" || tries >= TRIES) throw error;
    }
  }
}

function applyEdits(text: string, edits: readonly Edit[], path: string): string {
  let now = text;
  for (const [at, { find, replace, all = false }] of edits.entries()) {
    const which = `edit ${at + 1} of ${edits.length}`;
    if (find === "")
      throw new KernelError("EINVAL", `${which} has nothing to find; write the whole file instead`, { path });
    const parts = now.split(find);
    const count = parts.length - 1;
    if (count === 0)
      throw new KernelError("EINVAL", `${which} finds nothing: ${shown(find)} is not in the file${hintOf(now, find)}`, {
        path,
      });
    if (count > 1 && !all)
      throw new KernelError(
        "EINVAL",
        `${which} is not clear: ${shown(find)} is there ${count} times, at lines ${linesOf(parts)}; give more of what is around it, or all`,
        { path },
      );
    now = parts.join(replace);
  }
  return now;
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new KernelError("EINVAL", "the file is no UTF-8 text", { path, cause: error });
  }
}

const shown = (text: string): string => JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 80)}…`);

/** Lines at which each occurrence begins, the first few. */
function linesOf(parts: readonly string[]): string {
  let line = 1;
  // What lies behind the last one is no occurrence.
  const lines = parts.slice(0, Math.min(5, parts.length - 1)).map((part) => (line += part.split("\n").length - 1));
  return `${lines.join(", ")}${parts.length > 6 ? ", …" : ""}`;
}

/** What differs in white space alone is the most frequent slip. */
const hintOf = (text: string, find: string): string =>
  plain(text).includes(plain(find)) ? "; it is there with other white space" : "";
const plain = (text: string): string => text.replaceAll(/\s+/g, " ").trim();
