mod fixtures;
mod hostile;
mod report_files;
