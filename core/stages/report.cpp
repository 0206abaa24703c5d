#include "core/stages/report.h"

#include "core/stages/report/html.h"
#include "core/stages/report/run_folder.h"
#include "core/stages/report/sections.h"
#include "core/stages/report/style.h"
#include "core/storage/durable.h"

namespace infalign::stages {

void write_report(const std::filesystem::path& output, const std::string& gnuplot) {
  const RunFolder run = read_run_folder(output);
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n";
  page += "<title>" + escape(run.name) + " · InfAlign report</title>\n<style>\n" + std::string(kStyle) +
          "</style></head>\n<body>\n";
  page += header_section(run) + "<main>\n";
  page += result_section(run);
  page += win_rate_section(run, gnuplot);
  page += calibration_section(run, gnuplot);
  page += training_section(run, gnuplot);
  page += examples_section(run);
  page += configuration_section(run);
  page += guide_section(run);
  page += "</main>\n</body></html>\n";
  storage::write_file_durably(output / "report.html", page);
}

}  // namespace infalign::stages
