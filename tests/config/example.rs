//! The example file is right, and has every key.

use serde_json::Value;

use super::{text, wharf};
use crate::harness::{guest, root};

fn schema() -> Value {
    let output = wharf(&["config", "schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn example() -> String {
    std::fs::read_to_string(root().join("wharf.toml")).unwrap()
}

#[test]
fn the_example_file_is_right() {
    for component in ["echo", "admission"] {
        guest(component);
    }
    let file = root().join("wharf.toml");
    let output = wharf(&["check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(
        said.ends_with("nothing is wrong with 1 tenant and 2 routes\n"),
        "{said}"
    );
}

/// Every key below a table of the schema, with the key of its table.
fn keys(schema: &Value, table: &str, found: &mut Vec<(String, String, Value)>) {
    let schema = if schema["type"] == "array" {
        &schema["items"]
    } else {
        schema
    };
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        found.push((table.to_owned(), key.clone(), schema.clone()));
        let path = if table.is_empty() {
            key.clone()
        } else {
            format!("{table}.{key}")
        };
        keys(schema, &path, found);
    }
}

#[test]
fn the_example_file_has_every_key_of_the_schema_and_says_its_default() {
    let mut found = Vec::new();
    keys(&schema(), "", &mut found);
    assert!(found.len() > 50, "{found:#?}");
    let example = example();
    for (table, key, schema) in found {
        let path = if table.is_empty() {
            key.clone()
        } else {
            format!("{table}.{key}")
        };
        let header = |line: &str| line == format!("[{path}]") || line == format!("[[{path}]]");
        let value = |line: &str| {
            let line = line.trim_start_matches("# ");
            line.strip_prefix(&format!("{key} = ")).map(str::to_owned)
        };
        let values: Vec<_> = example.lines().filter_map(value).collect();
        let within = example.contains(&format!("{{ {key} = "));
        assert!(
            !values.is_empty() || within || example.lines().any(header),
            "{path} is missing"
        );
        assert!(
            schema["description"].is_string() || table.contains("secrets"),
            "{path} is not described"
        );
        if let Some(default) = schema.get("default").filter(|default| !default.is_object()) {
            // A key of that name may stand in other tables as well.
            assert!(values.contains(&default.to_string()), "{path}: {values:?}");
        }
    }
}

#[test]
fn the_schema_allows_no_other_keys() {
    fn closed(schema: &Value, path: &str) {
        if schema["type"] == "object" || schema["properties"].is_object() {
            assert!(
                !schema["additionalProperties"].is_null(),
                "{path} takes any key"
            );
        }
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            closed(schema, &format!("{path}.{key}"));
        }
        if schema["items"].is_object() {
            closed(&schema["items"], path);
        }
    }
    closed(&schema(), "");
}
