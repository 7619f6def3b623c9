vi_test(eval/modes_test DEPS vi_eval_run)
vi_test(eval/perplexity_test DEPS vi_eval_run)
