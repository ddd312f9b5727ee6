//! Writes `include/wigwag.h` from the C crate: one section for each of its files, in the order of its `pub mod` lines.
//!
//! `wigwag-header` writes the file, `wigwag-header --check` fails if it is not what would be written. cbindgen orders
//! constants, types and functions over a whole run; a run per file keeps each mechanism together.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How long a line of the header may be.
const WIDTH: usize = 120;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wigwag-header: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let header = root.join("include/wigwag.h");
    let text = header_text(&root.join("bindings/c"))?;
    match std::env::args().nth(1).as_deref() {
        None => {
            fs::create_dir_all(root.join("include"))?;
            fs::write(header, text)?;
        }
        Some("--check") if fs::read_to_string(&header)? == text => {}
        Some("--check") => return Err("include/wigwag.h is stale; run `make header` and commit the result".into()),
        Some(other) => return Err(format!("unknown argument {other}; expected --check or nothing").into()),
    }
    Ok(())
}

fn header_text(crate_root: &Path) -> Result<String> {
    let mut text = fs::read_to_string(crate_root.join("header/opening.h"))?;
    let library = fs::read_to_string(crate_root.join("src/lib.rs"))?;
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        text.push_str(&section(&crate_root.join(format!("src/{module}.rs")))?);
        let by_hand = crate_root.join(format!("header/{module}.h"));
        if by_hand.exists() {
            text.push('\n');
            text.push_str(&fs::read_to_string(by_hand)?);
        }
    }
    text.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    Ok(text)
}

fn section(file: &PathBuf) -> Result<String> {
    let source = fs::read_to_string(file)?;
    let title = source
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! "))
        .ok_or_else(|| format!("{} does not begin with its title", file.display()))?;
    // Also types that only other sections use.
    let types = source.lines().filter_map(|line| line.strip_prefix("pub struct "));
    let include = types.filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next());
    let config = cbindgen::Config {
        export: cbindgen::ExportConfig { include: include.map(str::to_owned).collect(), ..Default::default() },
        language: cbindgen::Language::C,
        style: cbindgen::Style::Both,
        documentation_style: cbindgen::DocumentationStyle::C,
        no_includes: true,
        line_length: 110,
        tab_width: 4,
        usize_is_size_t: true,
        function: cbindgen::FunctionConfig { args: cbindgen::Layout::Horizontal, ..Default::default() },
        ..Default::default()
    };
    let bindings = cbindgen::Builder::new().with_config(config).with_src(file).generate()?;
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated)?;
    Ok(format!(
        "\n\n/* ---- {} ---- */\n\n{}\n",
        title.trim_end_matches('.'),
        with_init_macros(&tidy(&generated)).trim()
    ))
}

/// Comments and types as a C programmer writes them: text right behind `/*`, and the typedef's name alone.
fn tidy(generated: &str) -> String {
    let mut text = String::new();
    let mut lines = generated.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "/*" {
            let line = if line.starts_with("typedef") { line.to_owned() } else { line.replace("struct ww_", "ww_") };
            if line.starts_with("#define ") {
                join_to_group(&mut text);
            }
            text.push_str(&filled(&parenthesised(&line)));
            text.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let comment: Vec<_> = lines.by_ref().take_while(|line| line.trim() != "*/").map(str::trim).collect();
        for (n, line) in comment.iter().enumerate() {
            let start = if n == 0 { "/* " } else { " * " };
            let end = if n + 1 == comment.len() { " */" } else { "" };
            text.push_str(format!("{indent}{start}{line}").trim_end());
            text.push_str(end);
            text.push('\n');
        }
    }
    text
}

/// A negative constant in parentheses, so that it can stand anywhere in an expression.
fn parenthesised(line: &str) -> String {
    match line.strip_prefix("#define ").and_then(|rest| rest.split_once(' ')) {
        Some((name, value)) if value.starts_with('-') => format!("#define {name} ({value})"),
        _ => line.to_owned(),
    }
}

/// Constants without a comment of their own belong to the one before: no blank line between.
fn join_to_group(text: &mut String) {
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    if last.starts_with("#define ") && text.ends_with("\n\n") {
        text.pop();
    }
}

/// A prototype that is longer than a line goes on below its first parameter.
fn filled(line: &str) -> String {
    let Some(parameters) = line.find('(').filter(|_| line.len() > WIDTH && line.ends_with(");")) else {
        return line.to_owned();
    };
    let mut text = String::new();
    let mut width = 0;
    for part in line.split_inclusive(", ") {
        if width + part.trim_end().len() > WIDTH {
            text.truncate(text.trim_end().len());
            text.push_str(&format!("\n{:1$}", "", parameters + 1));
            width = parameters + 1;
        }
        text.push_str(part);
        width += part.len();
    }
    text
}

/// Adds, behind each options struct, the macro that initialises it.
fn with_init_macros(generated: &str) -> String {
    let mut text = String::new();
    for line in generated.lines() {
        text.push_str(line);
        text.push('\n');
        let name = line.strip_prefix("} ").and_then(|rest| rest.strip_suffix(';'));
        if let Some(name) = name.filter(|name| name.ends_with("_options")) {
            text.push_str(&format!("#define {}_INIT WW_INIT({name})\n", name.to_uppercase()));
        }
    }
    text
}
