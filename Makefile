# Names for the common commands; the build itself is CMake (CMakePresets.json). `make` prints this list.
PRESET ?= release
JOBS ?= 2
BUILD := build/$(PRESET)
VI := $(BUILD)/vecinfer
EXP ?= experiments/quickstart.yaml

.DEFAULT_GOAL := help
.PHONY: data longbench math_evaluation ppl ruler compare help setup configure build demo test test-fast experiment sweep report bench kernels e2e breakdown clean fuzz

help: ## this list
	@grep -hE '^[a-z0-9_-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## install everything (Debian 12): packages, libtorch, the embedded model, texts
	@cmake/setup.sh

configure:
	@mkdir -p build
	@test -e $(BUILD)/build.ninja || cmake --preset $(PRESET)

build: configure ## compile build/$(PRESET)/vecinfer and the tests
	@cmake --build $(BUILD) -j $(JOBS) -- --quiet

$(VI): build

demo: setup build ## set-up, build, experiments/quickstart.yaml, the table
	@$(VI) run experiments/quickstart.yaml

test: build ## all tests
	@cd $(BUILD) && ctest -j $(JOBS) --output-on-failure

experiment: build ## run EXP=file.yaml
	@$(VI) run $(EXP)

report: build ## print and draw the report of EXP=file.yaml
	@$(VI) report $(EXP)

bindings: build ## the name that the paper's code uses for building the kernels

training: build ## dump, calibrate, transform and codebooks of EXP=file.yaml
	@$(VI) stage codebook $(EXP)

data: build ## download the public sets of data/sources.yaml (NAMES=...; DATA=folder of local files)
	@$(VI) data $(NAMES) $(if $(DATA),--data $(DATA))

# What the benchmark targets take: MODEL= a name or path, METHOD="a b", TASKS="a b", LIMIT= records or windows a
# task, DATA= folder of the files, DEVICE=. Each model's rows are kept under a name of their own.
over = $(if $(MODEL),--model $(MODEL) --set experiment=$(1)-$(basename $(notdir $(MODEL)))) \
  $(if $(METHOD),--method "$(METHOD)") $(if $(TASKS),--task "$(TASKS)") $(if $(LIMIT),--limit $(LIMIT)) \
  $(if $(DATA),--data $(DATA)) $(if $(DEVICE),--device $(DEVICE))

longbench: build ## LongBench, 13 tasks (MODEL= METHOD= TASKS= LIMIT= DATA= DEVICE=)
	@$(VI) run experiments/benchmark/longbench.yaml $(call over,longbench-13)

math_evaluation: build ## MATH-500, GSM8K, AIME 2024, AMC 2023 (the same variables)
	@$(VI) run experiments/benchmark/math.yaml $(call over,math)

ppl: build ## perplexity of WikiText-2 (the same variables)
	@$(VI) run experiments/benchmark/wikitext2.yaml $(call over,wikitext2)

ruler: build ## retrieval in prompts of 4k to 128k tokens (the same variables)
	@$(VI) run experiments/benchmark/ruler.yaml $(call over,ruler)

compare: build ## results beside the paper's Tables 2, 3 and 8 (MODEL=)
	@$(VI) compare $(if $(MODEL),--model $(MODEL))

kernels: build ## attention kernels against the fair baseline (DEVICE=cpu)
	@$(VI) bench kernels --device $(or $(DEVICE),cpu)

e2e: build ## whole decode steps and prefill on a GPU, synthetic weights of Llama-3.1-8B's shape
	@$(VI) bench e2e --device cuda

breakdown: build ## where a decode step's time goes, on a GPU
	@$(VI) bench breakdown --device cuda

kmeans: build ## k-means timings
	@$(VI) bench kmeans --device $(or $(DEVICE),cpu)

table4: build ## the paper's Table 4 (transform ablation at 1.5 bits) on the embedded model
	@$(VI) run experiments/paper/table4.yaml

fuzz: ## build the libFuzzer targets and run each for SECONDS=60
	@cmake --preset fuzz >/dev/null && cmake --build build/fuzz -j $(JOBS)
	@for f in build/fuzz/fuzz_*; do case $$f in *.*) continue;; esac; n=$${f##*/fuzz_}; mkdir -p build/fuzz/work_$$n; \
	  echo "== $$n"; $$f -max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048 build/fuzz/work_$$n tests/fuzz/corpus/$$n || exit 1; done

clean: ## delete build/ (not deps/, data/, results/)
	@rm -rf build
