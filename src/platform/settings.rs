//! Settings: a YAML file as somebody wrote it, read into checked values.
//!
//! A [`Reader`] stands at one mapping of the file. Each setting is asked for by key and kind;
//! whatever is wrong is noted, and reading goes on, so that one run names *every* problem with its
//! key, its value, the reason and an example. [`Reader::build`] hands the result over only if
//! there was none, and refuses keys that nobody asked for: a misspelt key is never a default.
//!
//! ```ignore
//! Reader::parse("node.yaml", text)?.build(|r| {
//!     let listen = r.map("listen");
//!     let region = r.string("region").example("us-east-1").required();
//!     let api = listen.parsed("api").example("127.0.0.1:7400").default(API_DEFAULT);
//!     Some(Settings { region: region?, api })
//! })
//! ```
//! Ask for everything first and put it together with `?` last, as here: what was never asked for
//! would be reported as unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use serde_yaml_ng::Value;

pub use units::{parse_duration, parse_size, show_duration, show_size};

mod units;

/// A value is shown to whoever made the mistake, not archived.
const SHOWN_CHARS_MAX: usize = 60;

/// One thing that is wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `listen.api`, `regions[2].name`.
    pub key: String,
    /// What stands there; empty when nothing does.
    pub value: String,
    pub reason: String,
    pub example: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, ": {}", self.value)?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.example.is_empty() {
            write!(f, " (for example {})", self.example)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {noun}", self.file)?;
        for problem in &self.list {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read settings {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Wrong(Problems),
}

impl From<Problems> for SettingsError {
    fn from(problems: Problems) -> Self {
        Self::Wrong(problems)
    }
}

/// Reads a settings file; `check` asks for its keys.
pub fn read_file<T>(
    path: &Path,
    check: impl FnOnce(&Reader) -> Option<T>,
) -> Result<T, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(Reader::parse(&path.display().to_string(), &text)?.build(check)?)
}

/// What the readers of one file share.
struct Notes {
    file: String,
    problems: Vec<Problem>,
    /// Each key somebody asked for; `true` where its inside was asked for key by key.
    asked: BTreeMap<String, bool>,
}

/// One mapping of a settings file.
pub struct Reader {
    /// `None` where the file has no such mapping: every required key in it is then missing.
    value: Option<Value>,
    path: String,
    notes: Rc<RefCell<Notes>>,
}

impl Reader {
    /// `file` is what problems name it by.
    pub fn parse(file: &str, text: &str) -> Result<Reader, Problems> {
        let broken = |reason: String| Problems {
            file: file.to_owned(),
            list: vec![Problem {
                key: "(the whole file)".into(),
                value: String::new(),
                reason,
                example: String::new(),
            }],
        };
        let value: Value =
            serde_yaml_ng::from_str(text).map_err(|e| broken(format!("is not YAML: {e}")))?;
        match value {
            Value::Mapping(_) | Value::Null => Ok(Self::new(file, value)),
            _ => Err(broken("must be a mapping of keys to values".into())),
        }
    }

    pub fn new(file: &str, value: Value) -> Reader {
        let notes =
            Notes { file: file.to_owned(), problems: Vec::new(), asked: BTreeMap::default() };
        Reader { value: Some(value), path: String::new(), notes: Rc::new(RefCell::new(notes)) }
    }

    /// The checked result, or every problem noted on the way and every key nobody asked for.
    pub fn build<T>(self, read: impl FnOnce(&Reader) -> Option<T>) -> Result<T, Problems> {
        let made = read(&self);
        let mut unknown = Vec::new();
        if let Some(value) = &self.value {
            unknown_keys(value, &self.path, &self.notes.borrow().asked, &mut unknown);
        }
        let mut notes = self.notes.borrow_mut();
        notes.problems.extend(unknown);
        match made {
            Some(made) if notes.problems.is_empty() => Ok(made),
            _ => Err(Problems {
                file: notes.file.clone(),
                list: std::mem::take(&mut notes.problems),
            }),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    pub fn string(&self, key: &str) -> Field<'_, String> {
        self.field(key, |value| match value {
            Value::String(text) if text.trim().is_empty() => Err("must not be empty".into()),
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Err(format!("must be text: write \"{number}\"")),
            _ => Err("must be text".into()),
        })
    }

    pub fn path(&self, key: &str) -> Field<'_, PathBuf> {
        self.string(key).map(|text| Ok(PathBuf::from(text)))
    }

    pub fn bool(&self, key: &str) -> Field<'_, bool> {
        self.field(key, |value| value.as_bool().ok_or_else(|| "must be true or false".into()))
    }

    pub fn integer(&self, key: &str) -> Field<'_, u64> {
        self.field(key, |value| value.as_u64().ok_or_else(|| "must be a whole number".into()))
    }

    pub fn number(&self, key: &str) -> Field<'_, f64> {
        self.field(key, |value| match value.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            _ => Err("must be a number".into()),
        })
    }

    /// `60s`, `500ms`, `30m`, `24h`, `7d`.
    pub fn duration(&self, key: &str) -> Field<'_, Duration> {
        let field = self.field(key, |value| match value {
            Value::String(text) => parse_duration(text),
            Value::Number(number) => Err(format!("a duration needs a unit: write {number}s")),
            _ => Err("must be a duration".into()),
        });
        field.example("60s")
    }

    /// `64MiB`, `8GiB`, `512B`: bytes.
    pub fn size(&self, key: &str) -> Field<'_, u64> {
        let field = self.field(key, |value| match value {
            Value::String(text) => parse_size(text),
            Value::Number(number) => Err(format!("a size needs a unit: write {number}B")),
            _ => Err("must be a size".into()),
        });
        field.example("64MiB")
    }

    /// Anything that reads itself from text: addresses, regions, enums.
    pub fn parsed<T>(&self, key: &str) -> Field<'_, T>
    where
        T: FromStr + 'static,
        T::Err: fmt::Display,
    {
        self.field(key, parse_scalar::<T>)
    }

    /// A list of values that read themselves from text; absent is the same as empty.
    pub fn parsed_list<T>(&self, key: &str) -> Vec<T>
    where
        T: FromStr + 'static,
        T::Err: fmt::Display,
    {
        self.items(key)
            .into_iter()
            .filter_map(|(path, value)| match parse_scalar::<T>(&value) {
                Ok(made) => Some(made),
                Err(reason) => {
                    self.note(path, shown(&value), reason, "");
                    None
                }
            })
            .collect()
    }

    pub fn strings(&self, key: &str) -> Vec<String> {
        self.parsed_list(key)
    }

    /// The mapping under `key`. Absent: a reader in which every key is absent.
    pub fn map(&self, key: &str) -> Reader {
        let path = self.join(key);
        self.ask(&path, true);
        let value = match self.peek(key) {
            Some(value @ Value::Mapping(_)) => Some(value.clone()),
            Some(other) => {
                self.note(path.clone(), shown(other), "must be a mapping of keys to values", "");
                None
            }
            None => None,
        };
        Reader { value, path, notes: Rc::clone(&self.notes) }
    }

    /// Like [`Reader::map`], or `None` when the file does not have it.
    pub fn optional_map(&self, key: &str) -> Option<Reader> {
        self.peek(key)?;
        Some(self.map(key))
    }

    /// A list of mappings; absent is the same as empty.
    pub fn maps(&self, key: &str) -> Vec<Reader> {
        self.items(key).into_iter().map(|(path, value)| self.inside(path, value)).collect()
    }

    /// A mapping whose keys are names the writer chose, in the order of the file.
    pub fn entries(&self, key: &str) -> Vec<(String, Reader)> {
        let map = self.map(key);
        let Some(Value::Mapping(entries)) = &map.value else { return Vec::new() };
        entries
            .iter()
            .filter_map(|(name, value)| {
                let Some(name) = name.as_str() else {
                    map.note(map.path.clone(), shown(name), "a key must be text", "");
                    return None;
                };
                let path = map.join(name);
                map.ask(&path, true);
                Some((name.to_owned(), map.inside(path, value.clone())))
            })
            .collect()
    }

    /// A mapping from chosen names to values that read themselves from text.
    pub fn parsed_entries<T>(&self, key: &str) -> Vec<(String, T)>
    where
        T: FromStr + 'static,
        T::Err: fmt::Display,
    {
        let map = self.map(key);
        let Some(Value::Mapping(entries)) = &map.value else { return Vec::new() };
        entries
            .keys()
            .filter_map(Value::as_str)
            .filter_map(|name| Some((name.to_owned(), map.parsed::<T>(name).required()?)))
            .collect()
    }

    /// The value as it stands, for what has a shape of its own.
    pub fn raw(&self, key: &str) -> Option<Value> {
        self.ask(&self.join(key), false);
        self.peek(key).cloned()
    }

    /// Notes a problem that only shows when several settings are seen together.
    pub fn problem(&self, key: &str, reason: impl Into<String>, example: &str) {
        let value = self.peek(key).map(shown).unwrap_or_default();
        self.note(self.join(key), value, reason, example);
    }

    /// Where this reader stands, as problems name it.
    pub fn location(&self) -> &str {
        &self.path
    }

    fn inside(&self, path: String, value: Value) -> Reader {
        let value = match value {
            Value::Mapping(_) => Some(value),
            Value::Null => None,
            other => {
                self.note(path.clone(), shown(&other), "must be a mapping of keys to values", "");
                None
            }
        };
        Reader { value, path, notes: Rc::clone(&self.notes) }
    }

    fn items(&self, key: &str) -> Vec<(String, Value)> {
        let path = self.join(key);
        self.ask(&path, true);
        match self.peek(key) {
            None => Vec::new(),
            Some(Value::Sequence(items)) => items
                .iter()
                .enumerate()
                .map(|(at, value)| {
                    let path = format!("{path}[{at}]");
                    self.ask(&path, true);
                    (path, value.clone())
                })
                .collect(),
            Some(other) => {
                self.note(path, shown(other), "must be a list", "");
                Vec::new()
            }
        }
    }

    fn field<T>(
        &self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, String> + 'static,
    ) -> Field<'_, T> {
        let path = self.join(key);
        self.ask(&path, false);
        Field {
            reader: self,
            value: self.peek(key).cloned(),
            path,
            example: String::new(),
            secret: false,
            parse: Box::new(parse),
        }
    }

    /// A key written with nothing behind it counts as absent.
    fn peek(&self, key: &str) -> Option<&Value> {
        self.value.as_ref()?.get(key).filter(|value| !value.is_null())
    }

    fn join(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn ask(&self, path: &str, opened: bool) {
        let mut notes = self.notes.borrow_mut();
        *notes.asked.entry(path.to_owned()).or_default() |= opened;
    }

    fn note(&self, key: String, value: String, reason: impl Into<String>, example: &str) {
        let problem = Problem { key, value, reason: reason.into(), example: example.to_owned() };
        let mut notes = self.notes.borrow_mut();
        if !notes.problems.contains(&problem) {
            notes.problems.push(problem);
        }
    }
}

type Parse<T> = Box<dyn Fn(&Value) -> Result<T, String>>;

/// One setting, not yet read. Ends with [`required`](Field::required),
/// [`optional`](Field::optional) or [`default`](Field::default).
#[must_use = "a setting is read by `required`, `optional` or `default`"]
pub struct Field<'r, T> {
    reader: &'r Reader,
    path: String,
    value: Option<Value>,
    example: String,
    secret: bool,
    parse: Parse<T>,
}

impl<T: 'static> Field<'_, T> {
    /// Shown with each problem of this setting.
    pub fn example(mut self, example: &str) -> Self {
        self.example = example.to_owned();
        self
    }

    /// Keeps the value out of messages.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Refuses values for which `refuse` gives a reason.
    pub fn check(self, refuse: impl Fn(&T) -> Option<String> + 'static) -> Self {
        self.map(move |value| match refuse(&value) {
            Some(reason) => Err(reason),
            None => Ok(value),
        })
    }
}

impl<'r, T: 'static> Field<'r, T> {
    /// Turns the value into what the program works with.
    pub fn map<U>(self, turn: impl Fn(T) -> Result<U, String> + 'static) -> Field<'r, U> {
        let Field { reader, path, value, example, secret, parse } = self;
        Field {
            reader,
            path,
            value,
            example,
            secret,
            parse: Box::new(move |value| parse(value).and_then(&turn)),
        }
    }

    /// The value; `None` means that a problem was noted.
    pub fn required(self) -> Option<T> {
        if self.value.is_none() {
            self.reader.note(self.path, String::new(), "is missing", &self.example);
            return None;
        }
        self.optional()
    }

    /// The value where there is a good one.
    pub fn optional(self) -> Option<T> {
        let value = self.value.as_ref()?;
        match (self.parse)(value) {
            Ok(made) => Some(made),
            Err(reason) => {
                let value = if self.secret { "(not shown)".to_owned() } else { shown(value) };
                self.reader.note(self.path, value, reason, &self.example);
                None
            }
        }
    }

    /// The value, or `default` when there is none. A wrong value is noted all the same.
    pub fn default(self, default: T) -> T {
        self.optional().unwrap_or(default)
    }
}

fn parse_scalar<T>(value: &Value) -> Result<T, String>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return Err("must be one value".into()),
    };
    text.parse::<T>().map_err(|e| e.to_string())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Notes keys nobody asked for, inside everything that was read key by key.
fn unknown_keys(
    value: &Value,
    path: &str,
    asked: &BTreeMap<String, bool>,
    found: &mut Vec<Problem>,
) {
    match value {
        Value::Mapping(entries) => {
            for (key, inner) in entries {
                let name = key.as_str().map_or_else(|| shown(key), str::to_owned);
                let at = join(path, &name);
                match asked.get(&at) {
                    Some(true) => unknown_keys(inner, &at, asked, found),
                    Some(false) => {}
                    None => found.push(Problem {
                        example: nearest(path, &name, asked),
                        key: at,
                        value: String::new(),
                        reason: "is not a known key".into(),
                    }),
                }
            }
        }
        Value::Sequence(items) => {
            for (at, inner) in items.iter().enumerate() {
                unknown_keys(inner, &format!("{path}[{at}]"), asked, found);
            }
        }
        _ => {}
    }
}

/// The known key beside it that was probably meant.
fn nearest(path: &str, name: &str, asked: &BTreeMap<String, bool>) -> String {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    asked
        .keys()
        .filter_map(|known| known.strip_prefix(&prefix))
        .filter(|known| !known.contains(['.', '[']))
        .map(|known| (distance(name, known), known))
        .filter(|(far, known)| *far <= known.len().max(3) / 3)
        .min()
        .map(|(_, known)| known.to_owned())
        .unwrap_or_default()
}

/// Levenshtein's distance, in bytes: keys are ASCII, and this only orders suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("'{text}'"),
        Value::Mapping(_) => "a mapping".into(),
        Value::Sequence(_) => "a list".into(),
        other => serde_yaml_ng::to_string(other).unwrap_or_default().trim_end().to_owned(),
    };
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
