//! The JSON Schemas of `afk.toml` and `.afk.toml`: editors complete and check the files by them, and
//! `afk config schema` prints them. They follow from the types of this module; the types below stand for
//! those of the core, which has no schemas.
//!
//! A schema knows types, names, choices and some ranges. [`Config::load`] checks more.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::Config;
use super::repository::RepositoryRules;

/// A repository's name, `owner/name`.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(super) struct RepositoryName(
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"))]
    #[allow(dead_code, reason = "only its schema is used")]
    String,
);

/// The role of a caller.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum RoleName {
    Operator,
    Viewer,
}

/// The kind of a notice.
#[derive(JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[schemars(inline, rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum NoticeName {
    Done,
    Asked,
    NeedsHuman,
    Stalled,
    Frozen,
    Outage,
    Breakglass,
}

/// `[permissions]`: what agents may do without asking.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct PermissionRules {
    /// The decision where no pattern matches.
    default: Option<DecisionName>,
    /// Patterns such as `shell(git push*)` that afk allows without asking a human.
    #[schemars(default)]
    allow: Vec<String>,
    /// Patterns about which afk asks a human.
    #[schemars(default)]
    ask: Vec<String>,
    /// Patterns that afk refuses without asking a human.
    #[schemars(default)]
    deny: Vec<String>,
}

/// The decision of a policy.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum DecisionName {
    Allow,
    Ask,
    Deny,
}

/// The schema of `afk.toml`.
#[must_use]
pub fn of_config() -> Value {
    whole::<Config>("afk.toml", "The configuration of afk, docs/configuration.md")
}

/// The schema of a repository's `.afk.toml`.
#[must_use]
pub fn of_repository() -> Value {
    whole::<RepositoryRules>(".afk.toml", "How afk tests, deploys and probes this repository")
}

fn whole<T: JsonSchema>(title: &str, description: &str) -> Value {
    let settings = SchemaSettings::draft07();
    let mut schema: Schema = settings.into_generator().into_root_schema_for::<T>();
    for (key, text) in BTreeMap::from([("title", title), ("description", description)]) {
        schema.insert(key.to_owned(), Value::from(text));
    }
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// Checks a value by the words of JSON Schema that the schemas above use. A word that is not known
    /// here fails the test, so that nothing is left unchecked.
    fn problem(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let rules = match schema {
            Value::Bool(true) => return None,
            Value::Bool(false) => return Some(format!("{at}: is not allowed")),
            other => other.as_object().unwrap(),
        };
        let any = |all: &Value| {
            let all = all.as_array().unwrap();
            let found: Vec<_> =
                all.iter().map(|one| problem(root, one, value, at)).collect::<Vec<_>>();
            if found.iter().any(Option::is_none) {
                return None;
            }
            found.into_iter().flatten().next()
        };
        for (word, rule) in rules {
            let wrong = match word.as_str() {
                "$schema" | "title" | "description" | "default" | "definitions" | "format" => None,
                "$ref" => {
                    let path = rule.as_str().unwrap().strip_prefix("#").unwrap();
                    problem(root, root.pointer(path).unwrap(), value, at)
                }
                "type" => {
                    let is = |name: &Value| match name.as_str().unwrap() {
                        "null" => value.is_null(),
                        "boolean" => value.is_boolean(),
                        "integer" => value.is_i64() || value.is_u64(),
                        "number" => value.is_number(),
                        "string" => value.is_string(),
                        "array" => value.is_array(),
                        "object" => value.is_object(),
                        other => panic!("{other}"),
                    };
                    let fits = rule.as_array().map_or_else(|| is(rule), |all| all.iter().any(is));
                    (!fits).then(|| format!("{at}: is not {rule}"))
                }
                "enum" => (!rule.as_array().unwrap().contains(value))
                    .then(|| format!("{at}: is not one of {rule}")),
                "const" => (rule != value).then(|| format!("{at}: is not {rule}")),
                "anyOf" | "oneOf" => any(rule),
                "allOf" => {
                    let all = rule.as_array().unwrap();
                    all.iter().find_map(|one| problem(root, one, value, at))
                }
                "minimum" => value
                    .as_f64()
                    .filter(|n| *n < rule.as_f64().unwrap())
                    .map(|_| format!("{at}: is below {rule}")),
                "maximum" => value
                    .as_f64()
                    .filter(|n| *n > rule.as_f64().unwrap())
                    .map(|_| format!("{at}: is above {rule}")),
                "minLength" | "maxLength" | "uniqueItems" => None,
                "minItems" | "maxItems" => None,
                "pattern" => {
                    let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                    let fits = value.as_str().is_none_or(|text| pattern.is_match(text));
                    (!fits).then(|| format!("{at}: does not match {rule}"))
                }
                "items" => value.as_array().and_then(|items| {
                    let each = |(n, item)| problem(root, rule, item, &format!("{at}[{n}]"));
                    items.iter().enumerate().find_map(each)
                }),
                "properties" => value.as_object().and_then(|fields| {
                    let each = |(name, field): (&String, &Value)| {
                        problem(root, rule.get(name)?, field, &format!("{at}.{name}"))
                    };
                    fields.iter().find_map(each)
                }),
                "additionalProperties" => value.as_object().and_then(|fields| {
                    let known = rules.get("properties");
                    let each = |(name, field): (&String, &Value)| {
                        if known.is_some_and(|known| known.get(name).is_some()) {
                            return None;
                        }
                        problem(root, rule, field, &format!("{at}.{name}"))
                    };
                    fields.iter().find_map(each)
                }),
                "required" => {
                    let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                    let missing = names.into_iter().find(|name| value.get(name).is_none());
                    missing.map(|name| format!("{at}: lacks {name}"))
                }
                other => panic!("the schema has the word {other}"),
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn validate(schema: &Value, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        let value = serde_json::to_value(table).unwrap();
        problem(schema, schema, &value, "").map_or(Ok(()), Err)
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// The files of a folder, with those below it.
    fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }

    #[test]
    fn shipped_configurations_pass_the_schema() {
        let (config, repository) = (of_config(), of_repository());
        let mut all = Vec::new();
        files(&root().join("assets"), &mut all);
        let mut checked = 0;
        for path in all {
            let name = path.file_name().unwrap().to_str().unwrap();
            let in_roles = path.parent().unwrap().ends_with("roles");
            let schema = match name {
                _ if name.ends_with(".afk.toml") => &repository,
                "afk.toml" | "earlier-service.toml" => &config,
                _ if in_roles => &config,
                _ => continue,
            };
            let text = std::fs::read_to_string(&path).unwrap();
            // `afk init` fills these in.
            let text = text.replace("{{trusted}}", "").replace("{{agents}}", "");
            let text = text.replace("{{agent}}", "").replace("{{repository}}", "");
            validate(schema, &text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            checked += 1;
        }
        assert!(checked >= 6, "{checked} files");
    }

    /// The examples of a page: blocks that are indented by four columns and parse as TOML.
    fn examples(page: &str) -> Vec<String> {
        let mut blocks = vec![String::new()];
        for line in page.lines() {
            match line.strip_prefix("    ") {
                Some(code) => {
                    let block = blocks.last_mut().unwrap();
                    block.push_str(code);
                    block.push('\n');
                }
                None if line.trim().is_empty() => blocks.last_mut().unwrap().push('\n'),
                None => blocks.push(String::new()),
            }
        }
        let is_example =
            |text: &String| text.parse::<toml::Table>().is_ok_and(|table| !table.is_empty());
        blocks.into_iter().filter(is_example).collect()
    }

    #[test]
    fn examples_of_the_pages_pass_a_schema() {
        let (config, repository) = (of_config(), of_repository());
        let mut checked = 0;
        let mut pages = Vec::new();
        files(&root().join("docs"), &mut pages);
        pages.push(root().join("README.md"));
        for page in pages.iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
            // A keymap's lines, a preset's table and the files of other programs are no configuration.
            for text in examples(&std::fs::read_to_string(page).unwrap()) {
                let table: toml::Table = text.parse().unwrap();
                let names = |schema: &Value| {
                    table.keys().all(|key| schema["properties"].get(key).is_some())
                };
                let results = [&config, &repository].map(|schema| {
                    // A part of a section stands without the rest of it in the pages.
                    let mut schema = schema.clone();
                    schema.as_object_mut().unwrap().remove("required");
                    if let Some(breakglass) = schema.pointer_mut("/definitions/BreakglassConfig") {
                        breakglass.as_object_mut().unwrap().remove("required");
                    }
                    names(&schema).then(|| validate(&schema, &text))
                });
                if results.iter().all(Option::is_none) {
                    continue;
                }
                checked += 1;
                let passes = results.iter().flatten().any(Result::is_ok);
                assert!(passes, "{}:\n{text}\n{results:?}", page.display());
            }
        }
        assert!(checked >= 12, "{checked} examples");
    }

    #[test]
    fn schema_refuses_unknown_keys_and_wrong_types() {
        let (config, repository) = (of_config(), of_repository());
        for (schema, text) in [
            (&config, "kill_swich = true"),
            (&config, "capacity = 'many'"),
            (&config, "allowlist = ['acme']"),
            (&config, "[http.tokens.a]\nsecret = 'env:A'\nrole = 'boss'"),
            (&config, "[notify.sinks.a]\nkind = 'fax'"),
            (&config, "[notify.sinks.a]\nkind = 'webhook'\naddress = 'env:A'\nurl = 'x'"),
            (&config, "[executors.a]\nkind = 'kubernetes'"),
            (&config, "[log]\nformat = 'xml'"),
            (&repository, "tests = 'x'"),
            (&repository, "test = 'x'\n[permissions]\ndefault = 'maybe'"),
            (&repository, "test = 'x'\n[probe]\nhttp = 1"),
        ] {
            assert!(validate(schema, text).is_err(), "{text}");
        }
        for (schema, text) in [
            (&config, ""),
            (&config, "[notify.sinks.a]\nkind = 'webhook'\naddress = 'env:A'"),
            (&config, "[executors.a]\nkind = 't3'\naddress = 'http://a'\ntoken = 'env:A'"),
            (&repository, "test = 'x'\n[gate]\nreport = 'junit:out.xml'"),
        ] {
            validate(schema, text).unwrap_or_else(|why| panic!("{text}: {why}"));
        }
    }

    #[test]
    fn choices_of_the_core_are_those_of_the_schema() {
        use crate::core::model::command::Role;
        use crate::core::model::notice::NoticeKind;
        use crate::core::model::permission::Decision;
        let schema = of_config();
        let role = &schema["definitions"]["TokenConfig"]["properties"]["role"];
        let roles = [Role::Operator, Role::Viewer].map(|role| json!(role));
        for value in roles {
            assert_eq!(problem(&schema, role, &value, ""), None, "{role}");
        }
        let kinds = [NoticeKind::NeedsHuman, NoticeKind::Outage, NoticeKind::Breakglass];
        for kind in kinds {
            let text = format!(
                "[notify.sinks.a]\nkind = 'ntfy'\naddress = 'http://a'\ntopic = 'a'\nnotices = [{}]",
                json!(kind)
            );
            validate(&schema, &text).unwrap();
        }
        for decision in [Decision::Allow, Decision::Ask, Decision::Deny] {
            let text = format!("test = 'x'\n[permissions]\ndefault = {}", json!(decision));
            validate(&of_repository(), &text).unwrap();
        }
    }
}
