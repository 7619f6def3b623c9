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

compare: build ## results beside the paper's Tables 2 to 8 (MODEL=)
	@$(VI) compare $(if $(MODEL),--model $(MODEL))

kernels: build ## attention kernels against the fair baseline (DEVICE=cpu)
	@$(VI) bench kernels --device $(or $(DEVICE),cpu)

e2e: build ## whole decode steps and prefill on a GPU, synthetic weights of Llama-3.1-8B's shape
	@$(VI) bench e2e --device cuda

breakdown: build ## where a decode step's time goes, on a GPU
	@$(VI) bench breakdown --device cuda

kmeans: build ## k-means timings
	@$(VI) bench kmeans --device $(or $(DEVICE),cpu)

# The paper's tables. Without MODEL= the embedded model, LIMIT=2 records a task, prompts of 2048 tokens, answers of 16
# and small k-means: every column fills in minutes. With MODEL= a name of experiments/models or a path to weights (AS= the
# paper's name of it) the experiment as it is written. DATA=: LongBench and mathematics; where data/ has none, two
# made-up records a task (tests/fixtures/records), whose scores mean nothing.
PAPER_DATA = $(or $(DATA),$(wildcard data/$(if $(filter table3,$(1)),math,longbench)),tests/fixtures/records)
made_up = $(filter tests/fixtures/records,$(call PAPER_DATA,$(1)))
quick = --set calibration.seq_len=$(if $(and $(made_up),$(filter table7,$(1))),16,512) --set calibration.sequences=4 --set calibration.tokens=2048 \
  --set calibration.probes=64 --set codebook.iterations=2 --set codebook.max_points=4096 --set evaluate.0.max_new_tokens=16 \
  $(if $(filter table3,$(1)),,--set evaluate.0.max_length=2048) --set 'report.note="$(if $(made_up),two made-up records a task: the scores mean nothing,$(or $(LIMIT),2) records a task$(,) short prompts and answers$(,) small k-means)"'
, := ,
paper_model = $(if $(AS),--set 'model={name: $(AS)$(,) path: $(MODEL)}',--model $(MODEL)) --set experiment=$(1)-$(or $(AS),$(basename $(notdir $(MODEL))))
paper = $(VI) $(if $(filter table7,$(1)),sweep,run) experiments/paper/$(1).yaml --data $(if $(filter table3,$(1)),$(if $(DATA)$(made_up),$(PAPER_DATA),data),$(PAPER_DATA)) \
  $(if $(MODEL),$(call paper_model,$(1)),$(call quick,$(1))) $(if $(or $(LIMIT),$(if $(MODEL),,2)),--limit $(or $(LIMIT),2)) \
  $(if $(METHOD),--method "$(METHOD)") $(if $(DEVICE),--device $(DEVICE)) $(if $(STORE),--store $(STORE))

TABLES := table2 table3 table4 table5 table6 table7 table8
FIGURES := fig1 fig5 fig6 fig7 fig8 fig9 fig10

.PHONY: paper honesty $(TABLES) $(FIGURES)
paper: $(TABLES) $(FIGURES) ## every table and figure of the paper, ours beside it (MODEL= AS= LIMIT= DATA= DEVICE=)

$(TABLES): build
	@$(call paper,$@)

table2: ## LongBench, 1.25 to 3 bits (also table3 ... table8)

fig1 fig10: build ## key outliers before and after the transforms
	@$(VI) run experiments/paper/$@.yaml $(if $(MODEL),--model $(MODEL),--limit 1 --set calibration.sequences=4 --set calibration.tokens=2048 \
	  --set codebook.iterations=2 --set codebook.max_points=4096) $(if $(DEVICE),--device $(DEVICE)) $(if $(STORE),--store $(STORE))

fig5 fig6 fig7 fig8 fig9: build ## kernel and step times: the paper's, the committed ones, new ones where there is a GPU
	@$(VI) figure experiments/paper/$@.yaml

sweep: build ## the grid of EXP=file.yaml (JOBS= side by side, MEMORY=16G, LAUNCHER=slurm)
	@$(VI) sweep $(EXP) $(if $(MEMORY),--memory $(MEMORY),--jobs $(JOBS)) $(if $(LAUNCHER),--launcher $(LAUNCHER))

honesty: build ## put the table of every measured method into README.md
	@$(VI) compare --honesty > build/honesty.md
	@awk '/^<!-- \/honesty -->/{keep=1} keep!=0||!inside{print} /^<!-- honesty -->/{inside=1; while((getline line < "build/honesty.md")>0) print line} /^<!-- \/honesty -->/{inside=0; keep=0}' README.md > build/README.md && cp build/README.md README.md

fuzz: ## build the libFuzzer targets and run each for SECONDS=60
	@cmake --preset fuzz >/dev/null && cmake --build build/fuzz -j $(JOBS)
	@for f in build/fuzz/fuzz_*; do case $$f in *.*) continue;; esac; n=$${f##*/fuzz_}; mkdir -p build/fuzz/work_$$n; \
	  echo "== $$n"; $$f -max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048 build/fuzz/work_$$n tests/fuzz/corpus/$$n || exit 1; done

clean: ## delete build/ (not deps/, data/, results/)
	@rm -rf build
