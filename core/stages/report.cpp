#include "core/stages/report.h"

#include "core/stages/report/page.h"
#include "core/stages/report/run_folder.h"
#include "core/stages/report/sections.h"
#include "core/storage/durable.h"

namespace infalign::stages {

void write_report(const std::filesystem::path& output, const std::string& gnuplot) {
  const RunFolder run = read_run_folder(output);
  const std::string body = header_section(run) + "<main>\n" + result_section(run) +
                           win_rate_section(run, gnuplot) + calibration_section(run, gnuplot) +
                           training_section(run, gnuplot) + examples_section(run) +
                           configuration_section(run) + guide_section(run) + "</main>\n";
  storage::write_file_durably(output / "report.html", page_html(run.name + " · InfAlign report", body));
}

}  // namespace infalign::stages
