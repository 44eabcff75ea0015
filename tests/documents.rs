// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the documents name is there: files of the repository, and tests that are said to show something.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// All documents.
fn documents() -> Vec<(String, String)> {
    let mut files = vec![root().join("README.md")];
    files.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    let read = |file: PathBuf| (file.display().to_string(), fs::read_to_string(&file).unwrap());
    files.into_iter().map(read).collect()
}

/// What stands between back-quotes in `text`, code blocks apart.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split("```").step_by(2).flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// All sources below the directory.
fn sources(directory: &Path, found: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_tests_that_the_documents_name_are_in_the_sources() {
    let mut code = String::new();
    for directory in ["src", "boot/src", "host/src", "tests", "fuzz"] {
        sources(&root().join(directory), &mut code);
    }
    // A test's name is a sentence. The few statistics that look like one are in the sources as well.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 4
            && name.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
            && name.starts_with(|letter: char| letter.is_ascii_lowercase())
    };
    let mut named = 0;
    for (document, text) in documents() {
        for name in quoted(&text).filter(is_test) {
            named += 1;
            assert!(code.contains(name), "{document} names {name}, which is nowhere");
        }
    }
    assert!(named >= 10, "{named} tests are named");
}

#[test]
fn the_files_that_the_documents_name_exist() {
    let mut named = 0;
    for (document, text) in documents() {
        let starts = ["src/", "boot/", "host/", "tests/", "fuzz/", "docs/"];
        for path in quoted(&text).filter(|quoted| starts.iter().any(|start| quoted.starts_with(start))) {
            let path = path.split([' ', ':']).next().unwrap();
            if path.contains(['*', '<', '{']) || path.chars().any(|letter| letter.is_ascii_uppercase()) {
                continue;
            }
            named += 1;
            assert!(root().join(path).exists(), "{document} names {path}, which is nowhere");
        }
    }
    assert!(named >= 50, "{named} files are named");
}
