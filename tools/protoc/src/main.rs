//! The part of protoc's command line that build scripts use, on protox: `-I`, `-o`, the two `--include_…` flags, files.

use std::{env, error::Error, fs, process::ExitCode};

fn main() -> ExitCode {
    match compile(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("protoc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compile(mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let (mut includes, mut files, mut out) = (Vec::new(), Vec::new(), None);
    let (mut with_imports, mut with_source_info) = (false, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-I" => includes.push(arguments.next().ok_or("-I needs a folder")?),
            "-o" => out = Some(arguments.next().ok_or("-o needs a file")?),
            "--include_imports" => with_imports = true,
            "--include_source_info" => with_source_info = true,
            flag if flag.starts_with('-') => return Err(format!("{flag} is not supported").into()),
            file => files.push(file.to_owned()),
        }
    }
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(with_imports).include_source_info(with_source_info).open_files(files)?;
    fs::write(out.ok_or("-o is missing")?, compiler.encode_file_descriptor_set())?;
    Ok(())
}
