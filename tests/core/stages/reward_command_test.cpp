// Rewards from real programs, well-behaved and otherwise: order, restarts, time limits, wrong output, floods.
#include "core/stages/reward_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr double kAmple = 120;  // seconds: no test waits for it

class RewardCommandTest : public testing::Test {
 protected:
  /// A Python program; `answer(line)` writes the reward of one request: the length of its response.
  std::vector<std::string> python(const std::string& body) const {
    const auto file = folder_ / "program.py";
    std::ofstream(file) << "import json, os, sys, time\n"
                           "def answer(line):\n"
                           "    request = json.loads(line)\n"
                           "    print(json.dumps({'id': request['id'], 'reward': len(request['response'])}), "
                           "flush=True)\n"
                        << body;
    return {"python3", file.string(), folder_.string()};
  }

  static std::vector<float> ask(RewardCommand& source, const std::vector<std::string>& responses,
                                const std::string& prompt = "a prompt") {
    return source.score({}, {}, prompt, std::vector<std::vector<std::int32_t>>(responses.size()), responses);
  }

  /// What `source` throws as an Error, or "".
  template <class Error>
  static std::string failure(RewardCommand& source) {
    try {
      ask(source, {"x", "yy"});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  /// What is said of a program that writes `text` for the two responses with the ids 0 and 1.
  static std::string said_of(const std::string& text) {
    RewardCommand source("model.reward", {"sh", "-c", "printf '%b' '" + text + "'; cat >/dev/null"}, kAmple,
                         3);
    return failure<InputError>(source);
  }

  const ScratchFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

const std::string kEcho = "for line in sys.stdin: answer(line)\n";

TEST_F(RewardCommandTest, EachResponseGetsItsReward) {
  RewardCommand source("model.reward", python(kEcho), kAmple, 0);
  EXPECT_THAT(ask(source, {"four", "", "a \"quoted\"\nline", "é"}), ElementsAre(4, 0, 15, 1));
  EXPECT_THAT(ask(source, {"fives"}), ElementsAre(5)) << "the same program goes on";
  EXPECT_THAT(ask(source, {}), ElementsAre());
}

TEST_F(RewardCommandTest, PromptAndResponseArriveAsTheyAre) {
  const auto command = python(
      "for line in sys.stdin:\n"
      "    request = json.loads(line)\n"
      "    good = request == {'id': request['id'], 'prompt': 'p\\n\\u00e9', 'response': 'r\\t\\ufffd'}\n"
      "    print(json.dumps({'reward': 1 if good else 0, 'id': request['id'], 'why': 'x'}), flush=True)\n");
  RewardCommand source("model.reward", command, kAmple, 0);
  EXPECT_THAT(ask(source, {"r\t\xff"}, "p\né"), ElementsAre(1)) << "what is not UTF-8 is replaced";
}

TEST_F(RewardCommandTest, AnswersMayComeInAnyOrder) {
  const auto command = python(
      "lines = [sys.stdin.readline() for _ in range(4)]\n"
      "for line in reversed(lines): answer(line); print(flush=True)\n");
  RewardCommand source("model.reward", command, kAmple, 0);
  EXPECT_THAT(ask(source, {"1", "22", "333", "4444"}), ElementsAre(1, 2, 3, 4));
}

TEST_F(RewardCommandTest, ManyMegabytesBothWaysDoNotBlock) {
  // Writes more than a pipe holds before it reads on, and answers with long lines.
  const auto command = python(
      "for line in sys.stdin:\n"
      "    request = json.loads(line)\n"
      "    print(json.dumps({'id': request['id'], 'reward': request['id'], 'echo': request['response']}), "
      "flush=True)\n");
  RewardCommand source("model.reward", command, kAmple, 0);
  const std::vector<std::string> responses(100, std::string(120'000, 'x'));
  const auto rewards = ask(source, responses);
  ASSERT_EQ(rewards.size(), 100u);
  EXPECT_EQ(rewards[99], 99);
}

TEST_F(RewardCommandTest, AFloodOfMessagesDoesNotBlock) {
  const auto command = python(
      "for line in sys.stdin:\n"
      "    sys.stderr.write('scoring\\n' * 100000 + 'y' * 100000)\n"
      "    answer(line)\n");
  RewardCommand source("model.reward", command, kAmple, 0);
  testing::internal::CaptureStderr();
  const auto rewards = ask(source, {"1", "22", "333"});
  const std::string shown = testing::internal::GetCapturedStderr();
  EXPECT_THAT(rewards, ElementsAre(1, 2, 3));
  EXPECT_THAT(shown, StartsWith("model.reward: scoring\nmodel.reward: scoring\n"));
}

TEST_F(RewardCommandTest, AProgramThatEndsIsStartedAgainAndAskedEverything) {
  const auto command = python(
      "first = not os.path.exists(sys.argv[1] + '/started')\n"
      "open(sys.argv[1] + '/started', 'w')\n"
      "for n, line in enumerate(sys.stdin):\n"
      "    if first and n == 1: sys.exit(7)\n"
      "    answer(line)\n");
  RewardCommand source("model.reward", command, kAmple, 1);
  EXPECT_THAT(ask(source, {"1", "22", "333"}), ElementsAre(1, 2, 3));
}

TEST_F(RewardCommandTest, EndingOnceTooOftenIsAnErrorThatTellsHow) {
  const auto command = python(
      "print('loading', file=sys.stderr)\n"
      "answer(sys.stdin.readline())\n"
      "print('no \\u00e9 left', file=sys.stderr)\n"
      "sys.exit(7)\n");
  RewardCommand source("model.reward", command, kAmple, 2);
  const auto text = failure<std::runtime_error>(source);
  EXPECT_THAT(text, StartsWith("model.reward: the program `python3 "));
  EXPECT_THAT(text,
              HasSubstr("` ended with exit status 7; it was asked about prompt \"a prompt\", 1 of 2 "
                        "responses answered; its last words: \"no é left\"; started 3 times, given up"));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
}

TEST_F(RewardCommandTest, ASignalIsNamed) {
  RewardCommand source("model.judge", python("os.kill(os.getpid(), 9)\n"), kAmple, 0);
  EXPECT_THAT(failure<std::runtime_error>(source),
              AllOf(StartsWith("model.judge: "), HasSubstr("ended with signal 9 (Killed); "),
                    HasSubstr("0 of 2 responses answered"), Not(HasSubstr("given up"))));
}

TEST_F(RewardCommandTest, AProgramThatTakesTooLongIsEnded) {
  const auto id_file = folder_ / "id";
  const std::string script =
      "echo $$ >" + id_file.string() + "; echo '{\"id\":1,\"reward\":2}'; exec sleep 600";
  RewardCommand source("model.reward", {"sh", "-c", script}, 5, 0);
  EXPECT_THAT(failure<std::runtime_error>(source),
              AllOf(HasSubstr("took more than 5.0 s; "), HasSubstr("1 of 2 responses answered")));
  pid_t id = 0;
  std::ifstream(id_file) >> id;
  EXPECT_GT(id, 0);
  EXPECT_EQ(kill(id, 0), -1) << "it has been waited for";
}

TEST_F(RewardCommandTest, AProgramThatReadsNothingDoesNotBlockUs) {
  RewardCommand source("model.reward", {"sleep", "600"}, 0.5, 0);
  EXPECT_THROW(ask(source, std::vector<std::string>(10, std::string(100'000, 'x'))), std::runtime_error);
}

TEST_F(RewardCommandTest, AProgramThatHasClosedItsInputMayStillAnswer) {
  const std::string script =
      "read a; read b; exec <&-; printf '{\"id\":1,\"reward\":2}\\n{\"id\":0,\"reward\":1}\\n'; exec sleep "
      "600";
  RewardCommand source("model.reward", {"sh", "-c", script}, 5, 0);
  EXPECT_THAT(ask(source, {"1", "22"}), ElementsAre(1, 2));
  EXPECT_THAT(failure<std::runtime_error>(source), HasSubstr("took more than 5.0 s")) << "and no SIGPIPE";
}

TEST_F(RewardCommandTest, ClosingItsOutputIsNamed) {
  RewardCommand source("model.reward", {"sh", "-c", "exec >&-; sleep 600"}, kAmple, 0);
  EXPECT_THAT(failure<std::runtime_error>(source), HasSubstr("` closed its standard output; "));
}

TEST_F(RewardCommandTest, AProgramThatCannotBeStartedIsNamed) {
  RewardCommand source("model.reward", {(folder_ / "none").string()}, kAmple, 3);
  EXPECT_EQ(failure<std::runtime_error>(source),
            "model.reward: cannot start " + (folder_ / "none").string() + ": No such file or directory");
}

TEST_F(RewardCommandTest, WrongOutputIsRefusedAtOnceWithTheLine) {
  EXPECT_THAT(
      said_of("Loading ...\\n"),
      HasSubstr("wrote a line that is not JSON (NaN is not; messages belong on standard error): \"Loading "
                "...\"; right would be, for each line it reads, {\"id\":0,\"reward\":0.5}; it was asked "
                "about prompt \"a prompt\", 0 of 2 responses answered"));
  EXPECT_THAT(said_of("[1]\\n"), HasSubstr("wrote a line that is not a JSON object: \"[1]\""));
  EXPECT_THAT(said_of("{\"reward\": 1}\\n"), HasSubstr("has no \"id\": \"{\\\"reward\\\": 1}\""));
  EXPECT_THAT(said_of("{\"id\": 0}\\n"), HasSubstr("has no \"reward\""));
  EXPECT_THAT(said_of("{\"id\": \"0\", \"reward\": 1}\\n"),
              HasSubstr("an \"id\" that is not the number given"));
  EXPECT_THAT(said_of("{\"id\": -1, \"reward\": 1}\\n"), HasSubstr("an \"id\" that is not the number given"));
  EXPECT_THAT(said_of("{\"id\": 2, \"reward\": 1}\\n"), HasSubstr("an \"id\" that was not asked for"));
  EXPECT_THAT(said_of("{\"id\": 1, \"reward\": 1}\\n{\"id\": 1, \"reward\": 2}\\n"),
              AllOf(HasSubstr("an \"id\" that was answered before"), HasSubstr("1 of 2 responses answered")));
  EXPECT_THAT(said_of("{\"id\": 0, \"reward\": \"1\"}\\n"), HasSubstr("a \"reward\" that is not a number"));
  EXPECT_THAT(said_of("{\"id\": 0, \"reward\": null}\\n"), HasSubstr("a \"reward\" that is not a number"));
  EXPECT_THAT(said_of("{\"id\": 0, \"reward\": true}\\n"), HasSubstr("a \"reward\" that is not a number"));
  EXPECT_THAT(said_of("{\"id\": 0, \"reward\": NaN}\\n"), HasSubstr("not JSON (NaN is not"));
  EXPECT_THAT(said_of("{\"id\": 0, \"reward\": 1e39}\\n"), HasSubstr("beyond the range of float32"));
  const auto garbage = said_of("\\377" + std::string(1000, 'x') + "\\n");
  EXPECT_THAT(garbage, HasSubstr(std::string(100, 'x') + "\"..."));
  EXPECT_LT(garbage.size(), 700u) << "shortened";
}

TEST_F(RewardCommandTest, OutputWithoutAnEndIsRefused) {
  RewardCommand source("model.reward", {"sh", "-c", "tr '\\0' x </dev/zero"}, kAmple, 0);
  EXPECT_THAT(failure<InputError>(source), HasSubstr("has no end after 16 MiB: \"xxx"));
}

TEST_F(RewardCommandTest, AnAnswerTooManyIsNotTheNextBatchs) {
  const auto command = python(
      "for line in sys.stdin:\n"
      "    answer(line)\n"
      "    answer(line)\n");
  RewardCommand source("model.reward", command, kAmple, 0);
  EXPECT_THROW(
      {
        ask(source, {"1"});  // whether the second answer is there in time is chance
        ask(source, {"1"});
      },
      InputError);
}

TEST_F(RewardCommandTest, ItsFingerprintIsThatOfTheCommandAndItsFiles) {
  const auto command = python(kEcho);
  const auto of = [](const std::vector<std::string>& words) {
    return RewardCommand("model.reward", words, kAmple, 0).fingerprint();
  };
  const auto first = of(command);
  EXPECT_EQ(first, of(command));
  EXPECT_EQ(first, RewardCommand("model.judge", command, 1, 9).fingerprint());
  auto longer = command;
  longer.push_back("x");
  EXPECT_NE(first, of(longer));
  EXPECT_NE(of({"a", "bc"}), of({"ab", "c"}));
  python(kEcho + "\n");
  EXPECT_NE(first, of(command)) << "the program has changed";
}

TEST_F(RewardCommandTest, EndsTheProgramAndLeavesNoZombie) {
  const auto command = python("open(sys.argv[1] + '/id', 'w').write(str(os.getpid()))\n" + kEcho +
                              "open(sys.argv[1] + '/end', 'w').write('end of input')\n");
  {
    RewardCommand source("model.reward", command, kAmple, 0);
    ask(source, {"1"});
  }
  pid_t id = 0;
  std::ifstream(folder_ / "id") >> id;
  EXPECT_EQ(waitpid(id, nullptr, WNOHANG), -1) << "waited for already";
  std::string end;
  std::getline(std::ifstream(folder_ / "end"), end);
  EXPECT_EQ(end, "end of input") << "it could end by itself";
}

}  // namespace
}  // namespace infalign::stages
