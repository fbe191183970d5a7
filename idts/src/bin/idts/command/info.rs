// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts info`: which driver is here.

use anyhow::Result;
use idts::output::print;
use idts::{Driver, Role};
use serde_json::json;

use crate::cli::Info;

pub fn run(args: &Info) -> Result<()> {
    let driver = Driver::query()?;
    let role = match driver.role {
        Role::Front => "front",
        Role::Back => "back",
        _ => "unknown",
    };
    if args.output.json {
        let object = json!({
            "role": role, "version": driver.version, "features": driver.features,
        });
        print(object)?;
    } else {
        print(format_args!(
            "idts_{role}, version {} of the interface",
            driver.version
        ))?;
    }
    Ok(())
}
