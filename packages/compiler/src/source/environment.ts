// `${NAME}` and `${NAME:default}` in the texts of a manifest.

/** `$${NAME}` is the text `${NAME}` itself; `:-` before a default is written in shells. */
const VARIABLE = /\$?\$\{([A-Z_][A-Z0-9_]*)(?::-?([^}]*))?\}/g;
const SECRET = /(^|_)(KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(_?\d+)?$|^SECRET_/;

/** Names whose values are secrets: they stay out of plans and are filled in when a node runs. */
const isSecretName = (name: string): boolean => SECRET.test(name);

/**
 * The text with variables filled in. A plain scalar that is one variable takes the type that its value
 * would have in YAML; names of secrets are left as they are. `read` hears of all others.
 */
export function substitute(
  text: string,
  isPlain: boolean,
  environment: Readonly<Record<string, string | undefined>>,
  { missing, read }: { missing(name: string): void; read(name: string, value: string | undefined): void },
): string | number | boolean | null {
  if (!text.includes("${")) return text;
  const value = text.replaceAll(VARIABLE, (all, name: string, otherwise: string | undefined) => {
    if (all.startsWith("$$")) return isSecretName(name) ? all : all.slice(1);
    const found = environment[name] ?? otherwise;
    if (found === undefined) missing(name);
    if (!isSecretName(name)) read(name, environment[name]);
    return isSecretName(name) ? all : (found ?? "");
  });
  const isWhole = text.replace(VARIABLE, "") === "" && text.match(VARIABLE)?.length === 1;
  return isPlain && isWhole ? typed(value) : value;
}

/** A text as it is written in a manifest: what looks like a variable stays what it is, but secrets, which are filled in. */
export const quoteVariables = (text: string): string =>
  text.replaceAll(VARIABLE, (all, name: string) => (isSecretName(name) || all.startsWith("$$") ? all : `$${all}`));

/** A text of a file of its own as it is in a plan: nothing of it is filled in. */
export const keepSecrets = (text: string): string =>
  text.replaceAll(VARIABLE, (all, name: string) => (isSecretName(name) ? `$${all}` : all));

/** Fills in what `substitute` left: the secrets. */
export function revealSecrets(text: string, environment: Readonly<Record<string, string | undefined>>): string {
  if (!text.includes("${")) return text;
  return text.replaceAll(VARIABLE, (all, name: string, otherwise: string | undefined) =>
    // What else looks like one is what the value of a variable says, and stays.
    !isSecretName(name) ? all : all.startsWith("$$") ? all.slice(1) : (environment[name] ?? otherwise ?? ""),
  );
}

/** Values of the environment that must not be shown. */
export function secretValues(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  return Object.entries(environment).flatMap(([name, value]) =>
    isSecretName(name) && value !== undefined && value.length >= 6 ? [value] : [],
  );
}

/** The core schema of YAML 1.2, as a plain scalar in the file would be read. */
function typed(text: string): string | number | boolean | null {
  if (/^(true|True|TRUE)$/.test(text)) return true;
  if (/^(false|False|FALSE)$/.test(text)) return false;
  if (/^(null|Null|NULL|~|)$/.test(text)) return null;
  if (/^[-+]?(\d+|\d*\.\d+|\d+\.\d*)([eE][-+]?\d+)?$/.test(text)) return Number(text);
  return text;
}
