// Plain text analysis for the offline model: sentences, words, and what stands out.

const STOP_WORDS = new Set(
  "a an and are as at be been but by can could do does for from had has have he her his how i if in into is it its just like may me more most must my no nor not of on one only or other our out over own she should so some such than that the their them then there these they this those through to too under up use used using very was we were what when where which while who will with would you your".split(
    " ",
  ),
);

/** Markdown and HTML reduced to prose. */
function toProse(text: string): string {
  return text
    .replaceAll(/```[\s\S]*?(?:```|$)/g, " ")
    .replaceAll(/<!--[\s\S]*?(?:-->|$)/g, " ")
    .replaceAll(/!\[[^\]\n]*\]\([^)\n]*\)/g, " ")
    .replaceAll(/\[([^\]\n]*)\]\([^)\n]*\)/g, "$1")
    .replaceAll(/<[^>\n]{0,500}>/g, " ")
    .replaceAll(/^\s*[-=|:\s]{3,}$/gm, " ")
    .replaceAll(/^\s*#{1,6}\s+.*$/gm, "\n")
    .replaceAll(/[*_`>|]+/g, " ");
}

/** Sentences of prose: between 20 and 400 characters, in order, at most `max`. */
export function sentencesOf(text: string, max = 400): string[] {
  const out: string[] = [];
  for (const block of toProse(text).split(/\n\s*\n/)) {
    for (const piece of block.replaceAll(/\s+/g, " ").split(/(?<=[.!?])\s+(?=[A-Z"'(])/)) {
      const sentence = piece.trim();
      if (sentence.length >= 20 && sentence.length <= 400 && /[a-z]{3}/.test(sentence)) out.push(sentence);
      if (out.length >= max) return out;
    }
  }
  return out;
}

/** Content words in lower case, with their common endings removed. */
export function wordsOf(text: string): string[] {
  const out: string[] = [];
  for (const match of text.toLowerCase().matchAll(/[a-z][a-z0-9+#-]{2,30}/g)) {
    const word = match[0];
    if (!STOP_WORDS.has(word)) out.push(stem(word));
  }
  return out;
}

/** A crude stem: enough to see `parser`, `parsing` and `parse` as one. */
export function stem(word: string): string {
  for (const ending of ["ization", "ations", "ation", "ings", "ing", "ers", "er", "ies", "es", "ed", "s"]) {
    if (word.length > ending.length + 2 && word.endsWith(ending)) return word.slice(0, -ending.length);
  }
  return word.length > 4 && word.endsWith("e") ? word.slice(0, -1) : word;
}

export function countWords(words: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}
