//! Answers as text: tables for people, the wire's own shapes for programs.

pub mod audit;
pub mod decision;
pub mod promotion;
pub mod status;
pub mod table;
pub mod text;

use crate::args::Format;
use crate::failure::Failure;
use serde::Serialize;

/// A result for a program, ending with a newline.
pub fn data<T: Serialize>(format: Format, value: &T) -> Result<String, Failure> {
    let text = match format {
        Format::Yaml => serde_yaml_ng::to_string(value).map_err(std::io::Error::other)?,
        Format::Table | Format::Json => {
            let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
            text.push('\n');
            text
        }
    };
    Ok(text)
}
