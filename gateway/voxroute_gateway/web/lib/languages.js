// Languages that can be asked for by name: those of the models that voxroute works with.

import { languageName } from "./words.js";

const TAGS =
  "af am ar as az ba be bg bn bo br bs ca cs cy da de doi el en es et eu fa fi fo fr ga gl gom gu ha haw he hi " +
  "hr ht hu hy id ig is it ja jw ka kk km kn ko ks la lb ln lo lt lv mai mg mi mk ml mn mni mr ms mt my nb ne " +
  "nl nn no oc or pa pl ps pt ro ru sa sat sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tn tr tt uk ur uz " +
  "vi xh yi yo yue zh zh-TW zu";

/** All of them, `{tag, name}`, by name. */
export const LANGUAGES = TAGS.split(" ")
  .map((tag) => ({ tag, name: languageName(tag) }))
  .sort((a, b) => a.name.localeCompare(b.name, "en"));

const byName = new Map(LANGUAGES.map(({ tag, name }) => [name.toLowerCase(), tag]));

/** The tag that a person means by a name or a tag; null where it is neither. */
export function tagOf(text) {
  const asked = text.trim();
  const known = byName.get(asked.toLowerCase());
  if (known) return known;
  if (!/^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$/.test(asked)) return null;
  try {
    return Intl.getCanonicalLocales(asked)[0];
  } catch {
    return null;
  }
}
