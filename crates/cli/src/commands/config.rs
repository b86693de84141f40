//! `config`.

use crate::{
    args::{ConfigAction, Format, Global},
    exit::Exit,
    output::{self, table},
    settings::{self, Setting},
};

pub(crate) fn config(
    global: &Global,
    format: Format,
    action: &ConfigAction,
) -> anyhow::Result<Exit> {
    let ConfigAction::Show(args) = action;
    let settings = settings::explain(global)?;
    match format {
        Format::Table => output::line(&show(&settings, args.origin))?,
        Format::Json => output::line(&serde_json::to_string_pretty(&settings)?)?,
        Format::Jsonl => {
            for setting in &settings {
                output::line(&serde_json::to_string(setting)?)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(settings: &[Setting], with_origin: bool) -> String {
    let header: &[&str] = match with_origin {
        true => &["setting", "value", "origin"],
        false => &["setting", "value"],
    };
    let rows = settings.iter().map(|setting| {
        let value = setting.value.clone().unwrap_or_else(|| "-".to_owned());
        let mut row = vec![setting.name.to_owned(), value];
        if with_origin {
            row.push(setting.origin.to_string());
        }
        row
    });
    table(header, rows)
}
